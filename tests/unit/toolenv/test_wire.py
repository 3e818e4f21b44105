"""`/virtual` and `/rapidapi` answer as the reference's servers do."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.contracts.apis import ApiRef
from services.contracts.errors import DeadlineExceeded, ResourceExhausted, ServiceError, Unavailable
from services.contracts.toolbench.codes import code_of, status_of_error_text
from services.contracts.toolenv import CallSource, CallStatus, Observation
from services.kit.app import create_app
from services.toolenv.admission import Admission
from services.toolenv.catalog import Catalogue
from services.toolenv.chain import Chain
from services.toolenv.compression import ResponseSchemas
from services.toolenv.executors.base import Declined
from services.toolenv.invocation import Invocation
from services.toolenv.observation import failed, print_reply, succeeded
from services.toolenv.registry import Registry
from services.toolenv.service import ToolEnvService
from services.toolenv.wire import add_wire, wire_router
from tests.fakes.tool_sandbox import make_entry

pytestmark = pytest.mark.anyio

REF = "Text_Analysis/echo_tool/echo_text"
PAYLOAD = {
    "category": "Text_Analysis",
    "tool_name": "echo_tool",
    "api_name": "echo_text",
    "tool_input": '{"text": "hi"}',
    "strip": "truncate",
    "toolbench_key": "secret-key",
}


class Scripted:
    """An executor whose answer a test sets and which keeps the calls."""

    def __init__(self, source: CallSource = "live") -> None:
        self.source: CallSource = source
        self.answer: Observation | Declined | ServiceError = Declined("nothing to say")
        self.calls: list[Invocation] = []

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        self.calls.append(invocation)
        if isinstance(self.answer, ServiceError):
            raise self.answer
        return self.answer


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield None


def build_app(*executors: Scripted, **options: Any) -> FastAPI:
    entries = [make_entry(ref) for ref in (REF, "Text_Analysis/echo_tool/is_id", "Odd/t/a_for_t")]
    service = ToolEnvService(
        registry=Registry.fixed(Catalogue(entries)),
        chain=Chain(executors),
        admission=Admission(max_running=8, max_waiting=8),
    )
    app = create_app(title="test", routers=[], open_service=nothing)
    add_wire(app, wire_router(lambda _: service, **options))
    return app


async def post(app: FastAPI, path: str = "/virtual", **changes: Any) -> httpx.Response:
    content = changes.pop("content", None)
    headers = changes.pop("headers", {})
    body = {name: value for name, value in (PAYLOAD | changes).items() if value is not ...}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://env") as http:
        raw = json.dumps(body).encode() if content is None else content
        return await http.post(path, content=raw, headers=headers)


@pytest.fixture
def live() -> Scripted:
    executor = Scripted()
    executor.answer = succeeded({"echo": "hé", "n": 1.0}, source="live", latency_s=0.25)
    return executor


async def test_virtual_answers_with_the_reply_as_it_is(live: Scripted) -> None:
    response = await post(build_app(live))
    assert response.status_code == 200
    assert response.content == b'{"error": "", "response": {"echo": "h\\u00e9", "n": 1.0}}'
    assert response.headers["content-type"] == "application/json"
    assert live.calls[0].arguments == {"text": "hi"}


async def test_rapidapi_answers_with_python_text(live: Scripted) -> None:
    response = await post(build_app(live), "/rapidapi")
    assert response.json() == {"error": "", "response": "{'echo': 'hé', 'n': 1.0}"}
    assert response.text.startswith('{"error": "", "response": ')


async def test_rapidapi_returns_2048_characters(live: Scripted) -> None:
    live.answer = succeeded("é" * 3000, source="live", latency_s=0.0)
    app = build_app(live)
    assert (await post(app, "/rapidapi")).json()["response"] == "é" * 2048
    assert (await post(app)).json()["response"] == "é" * 3000


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), ([1, "a"], "[1, 'a']"), (True, "True"), (10**30, "1" + "0" * 30)],
)
async def test_rapidapi_prints_any_value_as_python_does(
    live: Scripted, value: Any, text: str
) -> None:
    live.answer = succeeded(value, source="live", latency_s=0.0)
    assert (await post(build_app(live), "/rapidapi")).json()["response"] == text


async def test_labels_are_in_the_headers(live: Scripted) -> None:
    response = await post(build_app(live))
    assert response.headers["x-toolwright-source"] == "live"
    assert response.headers["x-toolwright-status"] == "ok"
    assert response.headers["x-toolwright-key"] == live.calls[0].key
    assert response.headers["x-toolwright-latency"] == "0.250000"
    assert response.headers["x-request-id"]


async def test_a_recorded_reply_is_unchanged_and_dated() -> None:
    replay = Scripted("replay")
    content = '{"error":"Message error...","response":{"b":1,  "a":[]}}'
    replay.answer = Observation(
        status=CallStatus.TOOL_ERROR,
        content=content,
        source="replay",
        age_s=86400.5,
        recorded_source="remote",
    )
    response = await post(build_app(replay))
    assert response.text == content
    assert response.headers["x-toolwright-age"] == "86400.500"
    assert response.headers["x-toolwright-recorded-source"] == "remote"


@pytest.mark.parametrize(
    "changes",
    [
        {"category": "Text Analysis", "tool_name": "Echo Tool", "api_name": "Echo Text"},
        {"category": "Text/Analysis", "tool_name": "echo_tool_for_Text_Analysis"},
        {"api_name": "echo_text_for_echo_tool"},
        {"tool_name": "Echo Tool", "api_name": "Echo_Text_for_Echo Tool"},
        {"tool_input": {"text": "hi"}},
        {"toolbench_key": ..., "headers": {"toolbench_key": "secret-key"}},
        {"strip": ""},
        {"rapidapi_key": "another"},
    ],
)
async def test_every_spelling_of_the_reference_reaches_the_api(
    live: Scripted, changes: dict[str, Any]
) -> None:
    response = await post(build_app(live), **changes)
    assert response.status_code == 200
    assert live.calls[0].entry.document.ref == ApiRef.parse(REF)
    assert live.calls[0].arguments == {"text": "hi"}


async def test_reserved_names_and_names_with_for_are_found(live: Scripted) -> None:
    app = build_app(live)
    await post(app, api_name="id")
    await post(app, api_name="id_for_echo_tool")
    await post(app, category="Odd", tool_name="t", api_name="a_for_t")
    refs = [str(call.entry.document.ref) for call in live.calls]
    assert refs == ["Text_Analysis/echo_tool/is_id"] * 2 + ["Odd/t/a_for_t"]


async def test_the_chat_needs_no_tool(live: Scripted) -> None:
    response = await post(build_app(live), category="x", tool_name="y", api_name="chat_with_user")
    assert response.content == b'{"error": "", "response": "Chat with user."}'
    assert live.calls == []


async def test_empty_input_is_the_empty_object(live: Scripted) -> None:
    await post(build_app(live), tool_input="")
    assert live.calls[0].arguments == {}


@pytest.mark.parametrize("path", ["/virtual", "/rapidapi"])
@pytest.mark.parametrize("tool_input", ["{'text': 1}", '{"a": NaN}', "[1]", "{" * 60_000])
async def test_input_that_cannot_be_parsed_has_the_reference_s_text(
    live: Scripted, path: str, tool_input: str
) -> None:
    response = await post(build_app(live), path, tool_input=tool_input)
    assert response.status_code == 200
    assert response.content == b'{"error": "Tool input parse error...\\n", "response": ""}'
    assert live.calls == []


TEXTS = [
    (CallStatus.API_NOT_WORKING, "API not working error..."),
    (CallStatus.UNAUTHORIZED, "Unauthorized error..."),
    (CallStatus.UNSUBSCRIBED, "Unsubscribed error..."),
    (CallStatus.TOO_MANY_REQUESTS, "Too many requests error..."),
    (CallStatus.RATE_LIMITED, "Rate limit per minute error..."),
    (CallStatus.TOOL_ERROR, "Message error..."),
]


@pytest.mark.parametrize("path", ["/virtual", "/rapidapi"])
@pytest.mark.parametrize(("status", "text"), TEXTS)
async def test_the_client_derives_the_code_that_we_mean(
    live: Scripted, path: str, status: CallStatus, text: str
) -> None:
    live.answer = failed(status, "HTTP 4xx: no", source="live")
    response = await post(build_app(live), path)
    assert response.status_code == 200
    assert response.json() == {"error": text, "response": "HTTP 4xx: no"}
    assert code_of(status_of_error_text(response.json()["error"])) == code_of(status)
    assert response.headers["x-toolwright-status"] == status


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (CallStatus.TIMEOUT, "Timeout error..."),
        (CallStatus.REQUEST_FAILED, "Gateway error..."),
        (CallStatus.BLOCKED, "Blocked error..."),
        (CallStatus.OUTPUT_LIMIT, "too long"),
    ],
)
async def test_other_failures_are_told_in_documented_or_our_own_words(
    live: Scripted, status: CallStatus, error: str
) -> None:
    live.answer = failed(status, "too long", response="a page", source="live")
    assert (await post(build_app(live))).json() == {"error": error, "response": "a page"}


async def test_a_function_that_raises_is_told_with_its_import() -> None:
    custom = Scripted("custom")
    custom.answer = failed(CallStatus.TOOL_ERROR, "KeyError: 'a'", source="custom")
    expected = (
        "Function executing from data.toolenv.tools.Text_Analysis.echo_tool.api import echo_text "
        "error...\nKeyError: 'a'"
    )
    assert (await post(build_app(custom))).json() == {"error": expected, "response": ""}


async def test_a_backend_s_own_words_are_passed_on() -> None:
    remote = Scripted("remote")
    content = print_reply("Something else", "x")
    remote.answer = Observation(status=CallStatus.TOOL_ERROR, content=content, source="remote")
    assert (await post(build_app(remote))).text == content


async def test_an_upstream_that_answers_no_json_is_an_answer(live: Scripted) -> None:
    live.answer = succeeded("<html>busy</html>", source="live", latency_s=0.0)
    response = await post(build_app(live), "/rapidapi")
    assert response.json() == {"error": "", "response": "<html>busy</html>"}


async def test_an_unknown_api_is_no_working_api_and_near_names_are_told(live: Scripted) -> None:
    response = await post(build_app(live), api_name="echo_txt")
    assert response.status_code == 200
    reply = response.json()
    assert reply["error"] == "API not working error..."
    assert reply["response"].startswith("API doesn't exists: ")
    assert f"did you mean {REF}" in reply["response"]
    assert live.calls == []


async def test_a_recording_outlives_the_document_of_its_api(live: Scripted) -> None:
    replay = Scripted("replay")
    replay.answer = Observation(status=CallStatus.OK, content="{}", source="replay")
    app = build_app(replay, live)
    assert (await post(app, tool_name="Gone Tool", api_name="Old One")).text == "{}"
    assert str(replay.calls[0].entry.document.ref) == "Text_Analysis/gone_tool/old_one"
    replay.answer = Declined("no recording")
    assert await post(app, tool_name="gone")
    assert (await post(app, tool_name="../../etc")).status_code == 200
    assert live.calls == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Unavailable("the sandbox is down"), 503),
        (ResourceExhausted("too many calls"), 429),
        (DeadlineExceeded("too late"), 504),
    ],
)
@pytest.mark.parametrize("path", ["/virtual", "/rapidapi"])
async def test_our_own_failures_are_problems_and_never_a_tool_s_answer(
    live: Scripted, path: str, failure: ServiceError, status: int
) -> None:
    live.answer = failure
    response = await post(build_app(live), path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == failure.detail


async def test_sources_can_be_chosen_per_call(live: Scripted) -> None:
    custom = Scripted("custom")
    custom.answer = succeeded("mine", source="custom", latency_s=0.0)
    app = build_app(live, custom)
    response = await post(app, "/virtual?sources=replay,custom")
    assert response.headers["x-toolwright-source"] == "custom"
    assert live.calls == []
    refused = await post(app, "/virtual?sources=fake")
    assert refused.status_code == 400
    assert "'fake' is not one of custom, live, remote, replay, simulated" in refused.text


@pytest.mark.parametrize("field", [*PAYLOAD])
async def test_a_missing_field_is_unprocessable(live: Scripted, field: str) -> None:
    response = await post(build_app(live), **{field: ...})
    assert response.status_code == 422
    missing = {"loc": ["body", field], "msg": "field required", "type": "value_error.missing"}
    assert response.json() == {"detail": [missing]}
    assert "secret-key" not in response.text


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"content": b"{"}, "value_error.jsondecode"),
        ({"content": b"[]"}, "type_error.dict"),
        ({"content": b"\xff"}, "value_error.jsondecode"),
        ({"content": b"[" * 100_000}, "value_error.jsondecode"),
        ({"tool_input": 5}, "type_error.str"),
        ({"category": None}, "type_error.none.not_allowed"),
        ({"tool_input": "x" * 70_000}, "value_error.any_str.max_length"),
    ],
)
async def test_what_is_no_payload_is_unprocessable(
    live: Scripted, changes: dict[str, Any], kind: str
) -> None:
    response = await post(build_app(live), **changes)
    assert response.status_code == 422
    assert [error["type"] for error in response.json()["detail"]] == [kind]


async def test_a_body_beyond_the_limit_is_refused(live: Scripted) -> None:
    response = await post(build_app(live), content=b" " * ((1 << 20) + 1))
    assert response.status_code == 413


async def test_filter_compresses_what_rapidapi_answers(live: Scripted) -> None:
    schemas = ResponseSchemas({ApiRef.parse(REF): {"n": "int"}})
    app = build_app(live, schemas=schemas)
    assert (await post(app, "/rapidapi", strip="filter")).json()["response"] == "{'n': 1.0}"
    truncated = (await post(app, "/rapidapi")).json()["response"]
    assert truncated == "{'echo': 'hé', 'n': 1.0}"
    assert (await post(app, strip="filter")).json()["response"] == {"echo": "hé", "n": 1.0}


async def test_good_answers_are_classed_by_substring_only_on_request(live: Scripted) -> None:
    live.answer = succeeded({"error": None}, source="live", latency_s=0.0)
    assert (await post(build_app(live), "/rapidapi")).json()["error"] == ""
    app = build_app(live, classifies_as_reference=True)
    reply = (await post(app, "/rapidapi")).json()
    assert reply == {"error": "Message error...", "response": "{'error': None}"}


async def test_the_routes_are_in_the_description_of_the_service(live: Scripted) -> None:
    app = build_app(live)
    assert {"/virtual", "/rapidapi"} <= set(app.openapi()["paths"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://env") as http:
        assert (await http.get("/virtual")).status_code == 405


async def test_the_usual_way_answers_as_the_shortcut_does(live: Scripted) -> None:
    app = build_app(live)
    app.user_middleware.clear()
    assert (await post(app)).json()["response"] == {"echo": "hé", "n": 1.0}
    live.answer = Unavailable("down")
    assert (await post(app)).status_code == 503


@pytest.mark.parametrize("path", ["/virtual", "/rapidapi"])
@pytest.mark.parametrize("field", ["category", "tool_name", "api_name", "strip", "toolbench_key"])
async def test_half_a_character_in_a_name_is_an_unknown_api(
    live: Scripted, path: str, field: str
) -> None:
    reply = await post(build_app(live, Scripted("replay")), path, **{field: "\ud800x"})
    assert reply.status_code == 200
