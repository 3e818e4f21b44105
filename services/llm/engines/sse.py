"""Server-sent events as OpenAI-compatible servers send them: the data of each event."""

from collections.abc import AsyncIterator

from services.contracts.errors import Unavailable

MAX_EVENT_CHARS = 1 << 20
"""Longest accepted event; a reply piece is a few hundred characters."""
_MAX_STREAM_CHARS = 64 << 20  # 32,768 tokens in events of a kilobyte each, twice over


async def text_lines(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the lines of a text that comes in pieces, without their ends.

    httpx's `aiter_lines` would collect a line without an end until the memory is gone.

    Raises:
        Unavailable: A line exceeds `MAX_EVENT_CHARS`, or the whole its own limit.
    """
    held: list[str] = []
    held_chars = total = 0
    async for piece in pieces:
        total += len(piece)
        first, *others = piece.split("\n")
        held.append(first)
        held_chars += len(first)
        if held_chars > MAX_EVENT_CHARS or total > _MAX_STREAM_CHARS:
            raise Unavailable(
                f"the model server sent a line of more than {MAX_EVENT_CHARS} characters, or more "
                f"than {_MAX_STREAM_CHARS} in all"
            )
        for other in others:
            yield "".join(held).removesuffix("\r")
            held, held_chars = [other], len(other)
    if held_chars:
        yield "".join(held).removesuffix("\r")


async def sse_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the data of each event; comments, ids and event names are ignored.

    Several `data:` lines of one event are joined by newlines. An event that the end of the stream
    cuts off is yielded as well, because some servers omit the last blank line.

    Raises:
        Unavailable: An event exceeds `MAX_EVENT_CHARS`.

    Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
    """
    data: list[str] = []
    size = 0
    async for line in lines:
        if not line and data:
            yield "\n".join(data)
            data, size = [], 0
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
            size += len(line)
        if size > MAX_EVENT_CHARS:
            raise Unavailable(
                f"the model server sent an event of more than {MAX_EVENT_CHARS} characters"
            )
    if data:
        yield "\n".join(data)
