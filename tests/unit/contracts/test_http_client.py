"""What a client sends along with a request."""

import time

import httpx
import pytest

from services.contracts.clients.http import stream_lines
from services.contracts.context import DEADLINE_HEADER, deadline_in
from services.contracts.toolenv import ToolCall

pytestmark = pytest.mark.anyio
CALL = ToolCall.model_validate(
    {"api": {"category": "A", "tool": "b", "api": "c"}, "arguments_text": "{}"}
)


async def sent_deadline_in_s(*, timeout_s: float) -> float:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, text="{}\n")

    transport = httpx.MockTransport(answer)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
        stream_lines(http, "/x", body=CALL, timeout_s=timeout_s) as lines,
    ):
        assert [line async for line in lines] == ["{}"]
    return float(requests[0].headers[DEADLINE_HEADER]) - time.time()


async def test_the_longest_silence_of_a_stream_is_not_its_deadline() -> None:
    assert await sent_deadline_in_s(timeout_s=5.0) > 3600


async def test_the_callers_deadline_is_passed_on() -> None:
    with deadline_in(60.0):
        assert 0 < await sent_deadline_in_s(timeout_s=5.0) <= 60.0
