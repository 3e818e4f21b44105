"""A client that leaves ends the work of its request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, Request

from services.kit.app import create_app, read_body, until_disconnect
from tests.fakes.loopback import serve

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield None


async def test_a_client_that_leaves_ends_the_work_and_is_no_crash(
    capsys: pytest.CaptureFixture[str],
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()
    router = APIRouter()

    async def work() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    @router.post("/wait")
    async def route(request: Request) -> None:
        await read_body(request)
        await until_disconnect(request, work())

    app = create_app(title="x", routers=[router], open_service=nothing)
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        call = asyncio.create_task(http.post("/wait", content=b"x"))
        await began.wait()
        call.cancel()
        async with asyncio.timeout(2):
            await ended.wait()
        assert (await http.get("/healthz")).status_code == 200
    assert "crashed" not in capsys.readouterr().out


class Present:
    """A request whose client stays."""

    async def receive(self) -> dict[str, object]:
        await asyncio.sleep(60)
        return {}


async def test_a_server_that_stops_is_not_taken_for_a_client_that_left() -> None:
    task = asyncio.create_task(until_disconnect(Present(), asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_work_gives_and_raises_is_passed_on() -> None:
    async def broken() -> None:
        raise ValueError("broken")

    assert await until_disconnect(Present(), asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ValueError, match="broken"):
        await until_disconnect(Present(), broken())
