"""The bridge to httpx, the watch over what a server sends, and the limits of a line."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import httpx2
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse
from pydantic import SecretStr

from services.toolenv.extension import AuthExtension
from services.toolenv.mcp_servers.fate import HTTP_FAILED, TOO_LARGE, Fate, WatchedStream
from services.toolenv.mcp_servers.http import SdkTransport
from services.toolenv.mcp_servers.jail import JailedCommand
from services.toolenv.mcp_servers.stdio import stdio_streams

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
NOTICE = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
Handler = Callable[[httpx.Request], httpx.Response]


def post(
    handler: Handler, message: object = CALL, *, limit: int = 1000, **auth: str
) -> httpx2.Response:
    placements = [AuthExtension.model_validate(auth)] if auth else []
    bridge = SdkTransport(
        httpx.MockTransport(handler),
        auth=placements,
        lookup={"key": SecretStr("s3cret")}.get,
        max_message_bytes=limit,
    )

    async def body() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=bridge) as client:
            response = await client.post("https://mcp.example/mcp", json=message)
            await response.aread()
            return response

    return asyncio.run(body())


def error(response: httpx2.Response) -> dict[str, object]:
    assert response.status_code >= 400
    return response.json()["error"]


def raising(exc: Exception) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        raise exc

    return handler


def test_a_request_passes_unchanged_and_its_answer_comes_back() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == CALL
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, json={"ok": 1}, headers={"mcp-session-id": "s"})

    response = post(handler)
    assert response.json() == {"ok": 1}
    assert response.headers["mcp-session-id"] == "s"


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"kind": "bearer"}, "authorization", "Bearer s3cret"),
        ({"kind": "basic"}, "authorization", "Basic czNjcmV0"),
        ({"kind": "header", "name": "X-Key", "prefix": "T "}, "x-key", "T s3cret"),
        ({"kind": "cookie", "name": "sid"}, "cookie", "sid=s3cret"),
    ],
)
def test_a_credential_goes_where_its_placement_says(
    auth: dict[str, str], header: str, value: str
) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers[header])
        return httpx.Response(200, json={})

    post(handler, credential="key", **auth)
    assert seen == [value]


def test_a_credential_in_the_query_is_added_to_the_url() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={})

    post(handler, credential="key", kind="query", name="k")
    assert seen == ["https://mcp.example/mcp?k=s3cret"]


@pytest.mark.parametrize(
    ("exc", "is_sent"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.ReadError("reset"), True),
        (httpx.RemoteProtocolError("odd"), True),
        (OSError("broken"), True),
    ],
)
def test_a_failing_exchange_is_an_error_answer_and_no_exception(
    exc: Exception, is_sent: bool
) -> None:
    failure = error(post(raising(exc)))
    assert failure["code"] == HTTP_FAILED
    assert failure["data"] == {"status": None, "sent": is_sent}


def test_an_answer_that_is_too_long_is_an_error_answer() -> None:
    failure = error(post(lambda request: httpx.Response(200, json={"x": "y" * 2000})))
    assert failure["code"] == TOO_LARGE and "1000 bytes" in str(failure["message"])


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_status_that_means_failure_is_told(status: int) -> None:
    failure = error(post(lambda request: httpx.Response(status, text="<html>")))
    assert failure["data"]["status"] == status


def test_an_error_of_the_protocol_passes_with_its_status() -> None:
    body = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "bad"}}
    response = post(lambda request: httpx.Response(500, json=body))
    assert error(response)["code"] == -32602


def test_a_compressed_answer_is_refused_because_it_could_unfold_past_the_limit() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(b"\x1f\x8b")
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    assert "compressed" in str(error(post(handler))["message"])


def test_a_notification_does_not_wait_for_a_server_that_never_replies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.toolenv.mcp_servers.http._NOTICE_TIMEOUT_S", 0.05)

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    assert error(post(handler, NOTICE))["code"] == HTTP_FAILED  # type: ignore[arg-type]


class Items:
    """A read stream over fixed items."""

    def __init__(self, *items: SessionMessage | Exception) -> None:
        self._items = iter(items)

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None

    async def receive(self) -> SessionMessage | Exception:
        return await self.__anext__()

    async def aclose(self) -> None:
        return


REPLY = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={}))
NEWS = SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="notifications/message"))


async def read_all(stream: AsyncIterator[SessionMessage | Exception]) -> int:
    return len([item async for item in stream])


def test_answers_are_never_too_many_but_other_messages_are() -> None:
    async def body() -> None:
        calm = WatchedStream(Items(*[REPLY] * 50, NEWS), fate=Fate(), max_unasked=5)
        assert await read_all(calm) == 51
        fate = Fate()
        flood = WatchedStream(Items(*[NEWS, ValueError("?")] * 50), fate=fate, max_unasked=5)
        assert await read_all(flood) == 5
        assert flood.ended.is_set()
        assert "limit is 5" in fate.reason

    asyncio.run(body())


def lines(program: str, limit: int = 1000) -> tuple[list[object], str]:
    """What a program's output is read as, and why it ended."""

    async def body() -> tuple[list[object], str]:
        fate = Fate()
        command = JailedCommand((sys.executable, "-c", program), {"PATH": "/usr/bin"})
        found: list[object] = []
        async with stdio_streams(command, max_message_bytes=limit, fate=fate) as streams:
            with anyio.fail_after(20):
                async for item in streams.read:
                    found.append(item if isinstance(item, Exception) else item.message)
        return found, fate.describe()

    return asyncio.run(body())


def test_a_line_that_is_too_long_becomes_the_error_of_its_call() -> None:
    program = """
import json
print(json.dumps({"jsonrpc": "2.0", "id": 5, "result": {"x": "y" * 5000}}))
print(json.dumps({"jsonrpc": "2.0", "id": 6, "result": {}}))
"""
    (first, second), fate = lines(program)
    assert isinstance(first, JSONRPCError) and (first.id, first.error.code) == (5, TOO_LARGE)
    assert isinstance(second, JSONRPCResponse) and second.id == 6
    assert "status 0" in fate


def test_lines_that_are_no_messages_are_exceptions_and_empty_ones_are_nothing() -> None:
    (first,), _ = lines("print(); print('hello'); print()")
    assert isinstance(first, ValueError)


def test_a_line_without_end_ends_the_connection() -> None:
    found, fate = lines("import sys\nwhile True: sys.stdout.write('x' * 1000)")
    assert found == []
    assert "more than 16000 bytes" in fate


def test_the_last_words_on_stderr_are_told_without_control_characters() -> None:
    _, fate = lines("import sys; sys.stderr.write('a\\x1b[31mb' + 'x' * 9); sys.exit(4)")
    assert "status 4" in fate and "a?[31mb" in fate
