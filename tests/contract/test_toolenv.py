"""The same cases on both bodies of the `ToolEnv` port: in this process, and over HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from services.contracts.apis import ApiRef
from services.contracts.clients.toolenv import HttpToolEnv
from services.contracts.context import deadline_in
from services.contracts.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.contracts.toolenv import CallStatus, ToolCall, ToolEnv, Trial
from services.kit.app import create_app
from services.toolenv.admission import Admission
from services.toolenv.catalog import Catalogue
from services.toolenv.chain import Chain
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.executors.trials import TrialRunner
from services.toolenv.registry import Registry
from services.toolenv.routes import router
from services.toolenv.sandbox import SandboxOutcome
from services.toolenv.service import ToolEnvService
from services.toolenv.status import SandboxStatus
from tests.fakes.loopback import serve
from tests.fakes.tool_sandbox import FakeSandbox, ended, make_entry

pytestmark = pytest.mark.anyio

ECHO = ApiRef.parse("Customized/echo_tool/echo_text")
STATUS = SandboxStatus(tier="ns", is_alive=True, landlock_abi=7, probes=())


class World:
    """A service on a fake sandbox whose state a test may change."""

    def __init__(self) -> None:
        self.sandbox = FakeSandbox()
        self.status = STATUS
        self.runs_code = True

    def service(self) -> ToolEnvService:
        return ToolEnvService(
            registry=Registry.fixed(
                Catalogue(
                    [
                        make_entry(),
                        make_entry("Customized/echo_tool/shout"),
                        make_entry("Customized/silent/hush", source=None),
                    ]
                )
            ),
            chain=Chain([CustomExecutor(self.sandbox, call_timeout_s=5)]),
            admission=Admission(max_running=1, max_waiting=0),
            sandbox_status=lambda: self.status,
            trials=TrialRunner(self.sandbox) if self.runs_code else None,
        )

    def app(self) -> FastAPI:
        @asynccontextmanager
        async def open_service() -> AsyncIterator[ToolEnvService]:
            yield self.service()

        return create_app(
            title="toolenv",
            routers=[router],
            open_service=open_service,
            check_ready=ToolEnvService.check_ready,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(world.app()) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(params=["in_process", "http"])
async def env(world: World, request: pytest.FixtureRequest) -> AsyncIterator[ToolEnv]:
    bodies = {"in_process": open_direct, "http": open_over_http}
    async with bodies[request.param](world) as body:
        yield body


@asynccontextmanager
async def open_direct(world: World) -> AsyncIterator[ToolEnv]:
    yield world.service()


@asynccontextmanager
async def open_over_http(world: World) -> AsyncIterator[ToolEnv]:
    async with (
        serve(world.app()) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield HttpToolEnv(client)


def echo(arguments_text: str = '{"text": "é\\ud83d\\ude00"}') -> ToolCall:
    return ToolCall(api=ECHO, arguments_text=arguments_text)


async def test_a_call_gives_its_observation(env: ToolEnv) -> None:
    observation = await env.invoke(echo())
    assert observation.content == '{"error": "", "response": "\\u00e9\\ud83d\\ude00"}'
    assert (observation.status, observation.source) == (CallStatus.OK, "custom")
    assert observation.latency_s == 0.25


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "😀", "x" * 65_536])
async def test_any_text_of_a_model_gives_an_observation(env: ToolEnv, text: str) -> None:
    observation = await env.invoke(echo(text))
    assert observation.status in {CallStatus.INVALID_ARGUMENTS, CallStatus.TOOL_ERROR}
    assert set(json.loads(observation.content)) == {"error", "response"}


@pytest.mark.parametrize("outcome", sorted(set(SandboxOutcome) - {"ok", "unavailable"}))
async def test_a_failing_tool_is_an_observation_and_the_next_call_is_right(
    env: ToolEnv, world: World, outcome: SandboxOutcome
) -> None:
    world.sandbox.force = ended(SandboxOutcome(outcome), error="why")
    assert (await env.invoke(echo())).status is not CallStatus.OK
    world.sandbox.force = None
    assert (await env.invoke(echo())).status is CallStatus.OK


async def test_an_api_without_code_is_an_observation(env: ToolEnv) -> None:
    call = ToolCall(api=ApiRef.parse("Customized/silent/hush"), arguments_text="{}")
    assert (await env.invoke(call)).status is CallStatus.API_NOT_WORKING


async def test_an_unknown_api_is_not_found_under_its_name(env: ToolEnv) -> None:
    call = ToolCall(api=ApiRef.parse("Customized/echo_tool/nothing"), arguments_text="{}")
    with pytest.raises(NotFound, match="Customized/echo_tool/nothing"):
        await env.invoke(call)


async def test_a_dead_sandbox_is_unavailable(env: ToolEnv, world: World) -> None:
    world.sandbox.force = ended(SandboxOutcome.UNAVAILABLE, error="zygote died")
    with pytest.raises(Unavailable, match="zygote died"):
        await env.invoke(echo())


async def test_the_deadline_reaches_the_sandbox(env: ToolEnv, world: World) -> None:
    with deadline_in(2.0):
        await env.invoke(echo())
    assert 0 < world.sandbox.calls[0][2] <= 2.0


async def test_a_passed_deadline_is_refused(env: ToolEnv) -> None:
    with deadline_in(-1.0), pytest.raises(DeadlineExceeded):
        await env.invoke(echo())


async def test_describe_keeps_the_order_asked_and_leaves_out_unknown_ones(env: ToolEnv) -> None:
    refs = [
        ApiRef.parse("Customized/silent/hush"),
        ApiRef.parse("Customized/silent/nothing"),
        ECHO,
    ]
    assert [document.ref for document in await env.describe(refs)] == [refs[0], ECHO]


async def test_the_catalogue_is_complete_and_equal_to_the_descriptions(env: ToolEnv) -> None:
    catalogue = await env.catalogue()
    refs = [document.ref for document in catalogue]
    assert len(refs) == 3
    assert await env.describe(refs) == catalogue


async def test_one_call_too_many_is_refused_at_once(env: ToolEnv, world: World) -> None:
    world.sandbox.hang = True
    with deadline_in(0.4):
        outcomes = await outcomes_of_two(env)
    assert ResourceExhausted in outcomes


async def outcomes_of_two(env: ToolEnv) -> list[type[Exception] | None]:
    """Start two calls that hang; how each ended within their time."""

    async def outcome() -> type[Exception] | None:
        try:
            async with asyncio.timeout(0.5):
                await env.invoke(echo())
        except (ResourceExhausted, Unavailable, DeadlineExceeded, TimeoutError) as exc:
            return type(exc)
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome()) for _ in range(2)]
    return [task.result() for task in tasks]


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"not json", 400, "Invalid JSON"),
        (
            b'{"api": {"category": "a", "tool": "b", "api": ""}, "arguments_text": ""}',
            400,
            "api.api",
        ),
        (b'{"api": {"category": "a", "tool": "b", "api": "c"}}', 400, "arguments_text"),
        (b'{"extra": 1}', 400, "extra"),
        (b" " * 1_100_000, 413, "1048576 bytes"),
        (
            json.dumps(
                {
                    "api": {"category": "a", "tool": "b", "api": "c"},
                    "arguments_text": "x" * 65_537,
                }
            ).encode(),
            400,
            "65536",
        ),
    ],
)
async def test_a_bad_request_is_a_problem_that_names_the_value(
    http: httpx.AsyncClient, body: bytes, status: int, named: str
) -> None:
    response = await http.post("/v1/invoke", content=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert named in response.json()["detail"]


async def test_a_call_sent_as_a_form_is_understood(http: httpx.AsyncClient) -> None:
    body = json.dumps({"api": ECHO.model_dump(), "arguments_text": '{"text": "a"}'})
    response = await http.post(
        "/v1/invoke",
        content=body,
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert response.json()["status"] == "ok"


async def test_health_follows_the_sandbox(http: httpx.AsyncClient, world: World) -> None:
    assert (await http.get("/readyz")).status_code == 200
    world.status = STATUS.model_copy(update={"is_alive": False})
    started = time.perf_counter()
    refused = await http.get("/readyz")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/v1/sandbox")).json()["is_alive"] is False
    assert time.perf_counter() - started < 5


TWICE = Trial(source="def twice(n):\n    return 2 * n\n", function="twice", arguments={"n": 21})


async def test_code_that_is_no_tool_yet_can_be_tried(env: ToolEnv, world: World) -> None:
    observation = await env.try_code(TWICE)
    assert (observation.status, observation.source) == (CallStatus.OK, "custom")
    assert json.loads(observation.content)["response"] == 42
    assert world.sandbox.calls[0][0] == "twice"


async def test_code_that_fails_is_an_observation(env: ToolEnv) -> None:
    broken = TWICE.model_copy(update={"arguments": {"n": None}})
    observation = await env.try_code(broken)
    assert observation.status is CallStatus.TOOL_ERROR
    assert "TypeError" in json.loads(observation.content)["error"]


async def test_without_a_sandbox_no_code_is_tried(world: World) -> None:
    world.runs_code = False
    bare = world.service()
    with pytest.raises(FailedPrecondition, match="TOOLENV_SOURCES"):
        await bare.try_code(TWICE)
