"""The reference's own way of calling tools, against our routes on a real server and a real record.

`reference_step` does what the reference's inference client does with a call (interop 3.1); it is
written from the specification.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import requests

from services.contracts.errors import Unavailable
from services.contracts.toolenv import CallSource, CallStatus, Observation
from services.kit.app import create_app
from services.toolenv.admission import Admission
from services.toolenv.cassettes.store import Store
from services.toolenv.catalog import Catalogue
from services.toolenv.chain import Chain
from services.toolenv.executors.base import Declined, Executor
from services.toolenv.executors.remote import RemoteExecutor
from services.toolenv.executors.replay import CassetteRecorder, ReplayExecutor
from services.toolenv.invocation import Invocation
from services.toolenv.observation import failed, succeeded
from services.toolenv.registry import Registry
from services.toolenv.service import ToolEnvService
from services.toolenv.wire import add_wire, wire_router
from tests.fakes.loopback import serve
from tests.fakes.tool_sandbox import make_entry
from tests.fakes.toolbench_backend import serve_backend

pytestmark = pytest.mark.anyio

REF = "Customized/echo_tool/echo_text"
CODES = {
    "API not working error...": 6,
    "Unauthorized error...": 7,
    "Unsubscribed error...": 8,
    "Too many requests error...": 9,
    "Rate limit per minute error...": 10,
    "Message error...": 11,
}


class Api:
    """An API that answers with its arguments, or as a test says."""

    source: CallSource = "live"

    def __init__(self) -> None:
        self.n_calls = 0
        self.status = CallStatus.OK

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        self.n_calls += 1
        await asyncio.sleep(0.005)
        if self.status is not CallStatus.OK:
            return failed(self.status, "the API refused", source="live")
        return succeeded({"echo": invocation.arguments}, source="live", latency_s=0.005)


class Env(NamedTuple):
    url: str
    store: Store
    api: Api


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "record.sqlite")
    yield opened
    opened.close()


@pytest.fixture
async def env(store: Store) -> AsyncIterator[Env]:
    api = Api()
    recorder = CassetteRecorder(store)
    async with running([ReplayExecutor([store]), api], recorder=recorder) as url:
        yield Env(url, store, api)


@asynccontextmanager
async def running(
    executors: Sequence[Executor],
    *,
    recorder: CassetteRecorder | None = None,
    max_running: int = 512,
) -> AsyncIterator[str]:
    """URL of a server with these executors."""
    service = ToolEnvService(
        registry=Registry.fixed(Catalogue([make_entry(REF)])),
        chain=Chain(executors, recorder=recorder),
        admission=Admission(max_running=max_running, max_waiting=0),
    )

    @asynccontextmanager
    async def open_service() -> AsyncIterator[ToolEnvService]:
        yield service

    app = create_app(title="wire", routers=[], open_service=open_service)
    add_wire(app, wire_router(lambda request: request.state.service))
    async with serve(app) as url:
        yield url


def reference_payload(**changes: str) -> dict[str, str]:
    return {
        "category": "Customized",
        "tool_name": "echo_tool",
        "api_name": "echo_text",
        "tool_input": '{"text": "hi"}',
        "strip": "truncate",
        "toolbench_key": "key",
    } | changes


def reference_step(url: str, *, as_data: bool = False, **changes: str) -> tuple[str, int]:
    """Observation and status code of one call."""
    payload = reference_payload(**changes)
    body: dict[str, Any] = {"data": json.dumps(payload)} if as_data else {"json": payload}
    response = requests.post(url, headers={"toolbench_key": "key"}, timeout=15, **body)
    if response.status_code != 200:
        error = f"request invalid, data error. status_code={response.status_code}"
        return json.dumps({"error": error, "response": ""}), 12
    try:
        reply = response.json()
    except ValueError:
        return json.dumps({"error": "request invalid, data error", "response": ""}), 12
    return json.dumps(reply), CODES.get(reply.get("error", ""), 0)


async def step(url: str, **options: Any) -> tuple[str, int]:
    async with asyncio.timeout(20):
        return await asyncio.to_thread(reference_step, url, **options)


@pytest.mark.parametrize("as_data", [False, True])
async def test_the_reference_s_client_gets_its_observation(env: Env, as_data: bool) -> None:
    observation, code = await step(f"{env.url}/virtual", as_data=as_data)
    assert observation == '{"error": "", "response": {"echo": {"text": "hi"}}}'
    assert code == 0
    observation, code = await step(f"{env.url}/rapidapi", as_data=as_data)
    assert observation == '{"error": "", "response": "{\'echo\': {\'text\': \'hi\'}}"}'
    assert (code, env.api.n_calls) == (0, 1)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (CallStatus.API_NOT_WORKING, 6),
        (CallStatus.UNAUTHORIZED, 7),
        (CallStatus.UNSUBSCRIBED, 8),
        (CallStatus.TOO_MANY_REQUESTS, 9),
        (CallStatus.RATE_LIMITED, 10),
        (CallStatus.TOOL_ERROR, 11),
        (CallStatus.BLOCKED, 0),
        (CallStatus.TIMEOUT, 0),
    ],
)
async def test_the_reference_s_client_derives_our_status_again(
    env: Env, status: CallStatus, code: int
) -> None:
    env.api.status = status
    for path in ("virtual", "rapidapi"):
        assert (await step(f"{env.url}/{path}"))[1] == code


async def test_a_recorded_failure_of_a_tool_means_the_same_when_replayed(env: Env) -> None:
    env.api.status = CallStatus.TOOL_ERROR
    first = await step(f"{env.url}/virtual")
    assert await step(f"{env.url}/virtual") == first
    assert first == ('{"error": "Message error...", "response": "the API refused"}', 11)
    assert env.api.n_calls == 1


async def test_hundreds_of_concurrent_misses_are_all_recorded_and_replayed(env: Env) -> None:
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as http:

        async def call(number: int) -> httpx.Response:
            payload = reference_payload(tool_input=json.dumps({"text": f"n{number}"}))
            return await http.post(f"{env.url}/virtual", json=payload)

        async def calls() -> list[httpx.Response]:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                tasks = [group.create_task(call(number)) for number in range(300)]
            return [task.result() for task in tasks]

        first, second = await calls(), await calls()
    assert {response.headers["x-toolwright-recorded"] for response in first} == {"True"}
    assert env.store.count() == 300
    assert env.api.n_calls == 300
    assert {response.headers["x-toolwright-source"] for response in second} == {"replay"}
    assert [response.content for response in second] == [response.content for response in first]


async def test_key_order_and_number_spelling_find_the_same_recording(env: Env) -> None:
    await step(f"{env.url}/virtual", tool_input='{"text": "a", "times": 1}')
    await step(f"{env.url}/virtual", tool_input='{"times":1.0,"text":"a"}')
    assert (env.api.n_calls, env.store.count()) == (1, 1)


async def test_input_that_cannot_be_parsed_calls_nobody(env: Env) -> None:
    observation, code = await step(f"{env.url}/virtual", tool_input="{'text': 1}")
    assert observation == '{"error": "Tool input parse error...\\n", "response": ""}'
    assert (code, env.api.n_calls) == (0, 0)


async def test_an_unknown_api_has_code_six(env: Env) -> None:
    observation, code = await step(f"{env.url}/virtual", api_name="nothing_here")
    assert code == 6
    assert "API doesn't exists" in observation


async def test_a_backend_that_answers_html_is_a_typed_answer() -> None:
    with serve_backend() as backend:
        backend.body = b"<html>502</html>"
        async with httpx.AsyncClient(trust_env=False) as http:
            remote = RemoteExecutor(http, url=backend.url, call_timeout_s=5)
            async with running([remote]) as url:
                observation, code = await step(f"{url}/virtual")
    assert json.loads(observation) == {
        "error": "Gateway error...",
        "response": "request invalid, data error",
    }
    assert code == 0


class Broken:
    source: CallSource = "custom"

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        raise Unavailable("the sandbox died")


class Hanging:
    source: CallSource = "custom"

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        await asyncio.sleep(1)
        return Declined("too slow")


async def test_our_own_failure_is_code_twelve_and_no_answer() -> None:
    async with running([Broken()]) as url:
        observation, code = await step(f"{url}/virtual")
    assert code == 12
    assert "status_code=503" in observation


async def test_a_flood_is_refused_with_429_and_the_rest_answered() -> None:
    async with running([Hanging()], max_running=1) as url, asyncio.TaskGroup() as group:
        tasks = [group.create_task(step(f"{url}/virtual")) for _ in range(2)]
        found = [(await task) for task in tasks]
    observations = sorted(observation for observation, _ in found)
    assert sorted(code for _, code in found) == [6, 12]
    assert "status_code=429" in observations[1]
