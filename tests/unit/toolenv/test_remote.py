"""The client of ToolBench's HTTP protocol against a real server on loopback."""

import json
import socket
import threading
import time
import traceback
from typing import Any

import httpx
import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, Unavailable
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.executors.remote import RemoteExecutor
from services.toolenv.invocation import prepare
from services.toolenv.observation import MAX_CONTENT_BYTES
from tests.fakes.toolbench_backend import Backend

pytestmark = pytest.mark.anyio


async def call(
    backend: Backend, entry: CatalogueEntry, arguments_text: str = "{}", **options: Any
) -> Observation:
    async with httpx.AsyncClient(trust_env=False) as http:
        executor = RemoteExecutor(http, url=backend.url, **options)
        return await executor.execute(prepare(entry, arguments_text))


async def test_the_request_has_toolbench_fields_and_header_and_the_models_text_verbatim(
    backend: Backend, entry: CatalogueEntry
) -> None:
    await call(backend, entry, '{"text": "é', toolbench_key="k1")
    path, headers, body = backend.received[0]
    assert (path, headers["toolbench_key"]) == ("/virtual", "k1")
    assert body == {
        "category": "Customized",
        "tool_name": "echo_tool",
        "api_name": "echo_text",
        "tool_input": '{"text": "é',
        "strip": "truncate",
        "toolbench_key": "k1",
    }


async def test_the_content_is_the_reply_printed_with_python_defaults_in_its_own_order(
    backend: Backend, entry: CatalogueEntry
) -> None:
    backend.body = '{"response":{"b":1.0,"a":"天"},"error":"","x":null}'.encode()
    observation = await call(backend, entry)
    assert observation.content == '{"response": {"b": 1.0, "a": "\\u5929"}, "error": "", "x": null}'
    assert (observation.status, observation.source) == (CallStatus.OK, "remote")


@pytest.mark.parametrize(
    ("error", "as_reference", "sensibly"),
    [
        ("", CallStatus.OK, CallStatus.OK),
        ("API not working error...", CallStatus.API_NOT_WORKING, CallStatus.API_NOT_WORKING),
        ("Unauthorized error...", CallStatus.UNAUTHORIZED, CallStatus.UNAUTHORIZED),
        ("Unsubscribed error...", CallStatus.UNSUBSCRIBED, CallStatus.UNSUBSCRIBED),
        ("Too many requests error...", CallStatus.TOO_MANY_REQUESTS, CallStatus.TOO_MANY_REQUESTS),
        ("Rate limit per minute error...", CallStatus.RATE_LIMITED, CallStatus.RATE_LIMITED),
        ("Message error...", CallStatus.TOOL_ERROR, CallStatus.TOOL_ERROR),
        ("Rate limit error...", CallStatus.OK, CallStatus.RATE_LIMITED),
        ("Gateway error...", CallStatus.OK, CallStatus.REQUEST_FAILED),
        ("Blocked error...", CallStatus.OK, CallStatus.BLOCKED),
        ("Tool input parse error...\n", CallStatus.OK, CallStatus.INVALID_ARGUMENTS),
        ("Timeout error...", CallStatus.OK, CallStatus.TIMEOUT),
        ("unauthorized error...", CallStatus.OK, CallStatus.TOOL_ERROR),
        ("Function executing f error...\nboom", CallStatus.OK, CallStatus.TOOL_ERROR),
        (None, CallStatus.OK, CallStatus.OK),
        ({"code": 7}, CallStatus.OK, CallStatus.TOOL_ERROR),
    ],
)
async def test_the_status_follows_the_error_text(
    backend: Backend,
    entry: CatalogueEntry,
    error: Any,
    as_reference: CallStatus,
    sensibly: CallStatus,
) -> None:
    backend.body = json.dumps({"error": error, "response": "x"}).encode()
    compatible = await call(backend, entry, codes_from_error_text=True)
    assert compatible.status is as_reference
    assert (await call(backend, entry)).status is sensibly


@pytest.mark.parametrize("status", [301, 404, 422, 429, 500])
async def test_a_bad_http_status_is_a_failed_request_in_the_references_words(
    backend: Backend, entry: CatalogueEntry, status: int
) -> None:
    backend.status = status
    observation = await call(backend, entry, codes_from_error_text=True)
    expected = f'{{"error": "request invalid, data error. status_code={status}", "response": ""}}'
    assert (observation.status, observation.content) == (CallStatus.REQUEST_FAILED, expected)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff\xfe\x00", b"[" * 200_000, b"[1]", b'{"response": 1}', b"9" * 5000],
)
async def test_a_body_outside_the_protocol_is_a_failed_request(
    backend: Backend, entry: CatalogueEntry, body: bytes
) -> None:
    backend.body = body
    observation = await call(backend, entry)
    assert observation.status is CallStatus.REQUEST_FAILED
    assert observation.content == '{"error": "request invalid, data error", "response": ""}'
    assert observation.source == "error"


async def test_a_slow_backend_gives_a_timeout_within_the_limit(
    backend: Backend, entry: CatalogueEntry
) -> None:
    backend.delay = threading.Event()
    started = time.perf_counter()
    observation = await call(backend, entry, call_timeout_s=0.2)
    assert time.perf_counter() - started < 3.0
    assert observation.status is CallStatus.TIMEOUT
    assert observation.content == '{"error": "Timeout error...", "response": ""}'


async def test_the_requests_deadline_shortens_the_wait(
    backend: Backend, entry: CatalogueEntry
) -> None:
    backend.delay = threading.Event()
    with deadline_in(0.2):
        observation = await call(backend, entry, call_timeout_s=60)
    assert observation.status is CallStatus.TIMEOUT


async def test_a_deadline_that_has_passed_sends_nothing(
    backend: Backend, entry: CatalogueEntry
) -> None:
    with deadline_in(-1), pytest.raises(DeadlineExceeded):
        await call(backend, entry)
    assert backend.received == []


async def test_an_answer_longer_than_the_limit_is_refused_with_the_limit(
    backend: Backend, entry: CatalogueEntry
) -> None:
    for size in (1_100_000, 5_000_000):
        backend.body = json.dumps({"error": "", "response": "x" * size}).encode()
        observation = await call(backend, entry)
        assert observation.status is CallStatus.OUTPUT_LIMIT
        assert "exceeds the limit of" in observation.content
        assert len(observation.content) <= MAX_CONTENT_BYTES


async def test_an_unreachable_backend_is_unavailable_and_names_the_setting(
    entry: CatalogueEntry,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/virtual"
        with pytest.raises(Unavailable, match=r"cannot be reached.*TOOLENV_REMOTE_URL"):
            await call(Backend(url=url), entry)


async def test_a_backend_that_hangs_up_in_the_middle_is_unavailable(
    backend: Backend, entry: CatalogueEntry
) -> None:
    backend.headers = {"content-length": "1000", "connection": "close"}
    with pytest.raises(Unavailable, match="RemoteProtocolError"):
        await call(backend, entry)


@pytest.mark.parametrize("place", ["127.0.0.1:1", "127.0.0.1:bad", "[::1"])
async def test_an_unreachable_backend_is_named_without_password_and_query(
    entry: CatalogueEntry, place: str
) -> None:
    url = f"http://ann:pa55word@{place}/virtual?key=pa55word"
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(Unavailable, match="cannot be reached") as raised:
            await RemoteExecutor(http, url=url).execute(prepare(entry, "{}"))
    assert "pa55word" not in str(raised.value)
    assert "pa55word" not in "".join(traceback.format_exception(raised.value))
