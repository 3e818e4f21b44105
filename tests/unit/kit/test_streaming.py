"""Streams end with an error frame or with their generator closed."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from services.contracts.clients.stream import parse_frame
from services.contracts.errors import ServiceError, Unavailable
from services.kit.app import create_app
from services.kit.streaming import model_lines, ndjson
from tests.fakes.loopback import serve

pytestmark = pytest.mark.anyio


class Number(BaseModel):
    n: int


class Source:
    """Counts up to `stop`, then ends or fails; knows whether it was closed."""

    def __init__(self, stop: int, error: Exception | None = None, pause_s: float = 0.0) -> None:
        self.sent = 0
        self.closed = asyncio.Event()
        self._stop, self._error, self._pause_s = stop, error, pause_s

    async def numbers(self) -> AsyncGenerator[Number, None]:
        try:
            for n in range(self._stop):
                yield Number(n=n)
                self.sent += 1
                await asyncio.sleep(self._pause_s)
            if self._error is not None:
                raise self._error
        finally:
            self.closed.set()


async def lines_of(source: Source) -> list[str]:
    return [line async for line in model_lines(source.numbers())]


async def test_one_document_per_line() -> None:
    assert await lines_of(Source(2)) == ['{"n":0}\n', '{"n":1}\n']


async def test_a_service_error_is_the_last_frame_and_is_raised_again() -> None:
    lines = await lines_of(Source(1, Unavailable("model away")))
    assert lines[0] == '{"n":0}\n'
    with pytest.raises(Unavailable, match="^model away$"):
        parse_frame(NotImplemented, lines[-1])  # type: ignore[arg-type]


async def test_a_defect_is_a_frame_too() -> None:
    frame = json.loads((await lines_of(Source(0, KeyError("x"))))[-1])
    assert (frame["stream_failure"], frame["problem"]["code"]) == (True, "internal")


async def test_closing_the_lines_closes_the_source() -> None:
    source = Source(10)
    lines = model_lines(source.numbers())
    await anext(lines)
    await lines.aclose()
    assert source.closed.is_set()


@asynccontextmanager
async def serving(source: Source) -> AsyncIterator[str]:
    router = APIRouter()

    @router.get("/numbers")
    async def numbers() -> Response:
        return ndjson(source.numbers())

    @asynccontextmanager
    async def nothing() -> AsyncIterator[None]:
        yield

    async with serve(create_app(title="t", routers=[router], open_service=nothing)) as url:
        yield url


async def test_a_client_that_leaves_closes_the_source_at_once() -> None:
    source = Source(100_000, pause_s=0.01)
    async with serving(source) as url, httpx.AsyncClient(trust_env=False) as http:
        async with http.stream("GET", f"{url}/numbers") as response:
            await anext(response.aiter_lines())
        await asyncio.wait_for(source.closed.wait(), 10)
    assert source.sent < 100_000


async def test_lines_arrive_one_by_one_and_nobody_keeps_them() -> None:
    source = Source(3, pause_s=0.3)
    async with (
        serving(source) as url,
        httpx.AsyncClient(trust_env=False) as http,
        http.stream("GET", f"{url}/numbers") as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == '{"n":0}'
        assert not source.closed.is_set()
        rest = [line async for line in lines]
    assert rest == ['{"n":1}', '{"n":2}']
    assert response.headers["cache-control"] == "no-store"


async def test_an_error_frame_crosses_the_wire() -> None:
    async with (
        serving(Source(1, Unavailable("gone"))) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        lines = (await http.get(f"{url}/numbers")).text.splitlines()
    with pytest.raises(ServiceError, match="gone"):
        parse_frame(NotImplemented, lines[1])  # type: ignore[arg-type]
