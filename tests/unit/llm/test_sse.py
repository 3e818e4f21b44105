"""Events of a stream, however the server writes them."""

from collections.abc import AsyncIterator

import pytest

from services.contracts.errors import Unavailable
from services.llm.engines.sse import MAX_EVENT_CHARS, sse_data

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
