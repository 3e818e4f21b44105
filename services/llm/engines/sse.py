"""Server-sent events as OpenAI-compatible servers send them: the data of each event."""

from collections.abc import AsyncIterator

from services.contracts.errors import Unavailable

MAX_EVENT_CHARS = 1 << 20
"""Longest accepted event; a reply piece is a few hundred characters."""


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
