"""Events of a stream, however the server writes them."""

from collections.abc import AsyncIterator

import pytest

from services.contracts.errors import Unavailable
from services.llm.engines.sse import MAX_EVENT_CHARS, sse_data, text_lines

pytestmark = pytest.mark.anyio


async def data_of(*lines: str) -> list[str]:
    async def read() -> AsyncIterator[str]:
        for line in lines:
            yield line

    return [data async for data in sse_data(read())]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["data: one", "", "data:two", ""], ["one", "two"]),
        ([": ping", "", "event: x", "id: 3", "retry: 5", "data: one", ""], ["one"]),
        (["data: one", "data: more", ""], ["one\nmore"]),
        (["data: cut off"], ["cut off"]),
        (["", "", "data:  spaced", ""], [" spaced"]),
        ([], []),
    ],
)
async def test_events_give_their_data(lines: list[str], expected: list[str]) -> None:
    assert await data_of(*lines) == expected


async def test_an_endless_event_is_refused() -> None:
    with pytest.raises(Unavailable, match=str(MAX_EVENT_CHARS)):
        await data_of(*["data: " + "x" * 1000] * 1200)


async def lines_of(*pieces: str) -> list[str]:
    async def read() -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    return [line async for line in text_lines(read())]


async def test_lines_do_not_depend_on_how_the_text_was_cut() -> None:
    assert await lines_of("da", "ta: one\r", "\n\ndata: \u2028", "two") == [
        "data: one",
        "",
        "data: \u2028two",
    ]


async def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(Unavailable, match=str(MAX_EVENT_CHARS)):
        await lines_of(*["x" * 1000] * 1200)
