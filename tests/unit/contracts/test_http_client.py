"""What a client sends along with a request."""

import time

import httpx
import pytest
from pydantic import TypeAdapter

from services.contracts.clients.http import call, stream_lines
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


async def test_every_request_has_the_clients_headers_and_a_body_and_deadline_of_its_own() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, text="null")

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), base_url="http://test/below", headers={"X-Key": "k"}
    ) as http:
        for body, timeout_s in ((CALL, 5.0), (b"[1]", 500.0), (None, 50.0)):
            await call(http, "POST", "/v1/x", TypeAdapter(None), body=body, timeout_s=timeout_s)
    assert [str(request.url) for request in requests] == ["http://test/below/v1/x"] * 3
    assert [request.content for request in requests] == [
        CALL.model_dump_json().encode(),
        b"[1]",
        b"",
    ]
    assert [request.headers["content-length"] for request in requests] == [
        str(len(CALL.model_dump_json())),
        "3",
        "0",
    ]
    assert all(request.headers["x-key"] == "k" for request in requests)
    left_s = [float(request.headers[DEADLINE_HEADER]) - time.time() for request in requests]
    assert left_s == pytest.approx([5.0, 500.0, 50.0], abs=1.0)
    assert [request.extensions["timeout"]["read"] for request in requests] == [5.0, 500.0, 50.0]


async def test_a_path_is_asked_for_by_each_method() -> None:
    methods: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        methods.append(f"{request.method} {request.url.query.decode()}")
        return httpx.Response(200, text="null")

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for method in ("GET", "POST", "GET"):
            await call(http, method, "/x?a=1", TypeAdapter(None), timeout_s=5.0)
    assert methods == ["GET a=1", "POST a=1", "GET a=1"]
