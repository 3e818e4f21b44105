"""A run that is cancelled or left ends its model call and its tool call, whoever carries them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.app import build_app
from gateway.backends import Backends
from gateway.settings import GatewaySettings
from services.contracts.clients.llm import HttpChatModel
from services.contracts.clients.planner import HttpPlanner
from services.contracts.clients.toolenv import HttpToolEnv
from services.contracts.llm import ChatModel, ChatRequest, Completion, ModelInfo
from services.contracts.planner import Limits
from services.contracts.toolenv import Observation, ToolCall, ToolEnv
from services.kit.app import create_app
from services.kit.telemetry import recording
from services.llm.routes import router as llm_router
from services.llm.service import LlmService
from services.planner.routes import router as planner_router
from services.planner.service import PlannerOptions, PlannerService
from services.toolenv.routes import router as toolenv_router
from tests.fakes.gateway import IndexedRetriever
from tests.fakes.loopback import serve
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    reply,
)

pytestmark = pytest.mark.anyio

_WITHIN_S = 2.0  # what the planner promises


@dataclass
class Hang:
    """A call that does not end by itself; says when it began, and when it was ended."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def forever(self) -> None:
        self.began.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.ended.set()


class World:
    """A model and a tool environment; `hangs` says which of them does not end by itself."""

    def __init__(self, *, streams: bool = False) -> None:
        self.hangs = "nothing"
        self.hang = Hang()
        self.streams = streams
        self.model = Engine(self)
        self.toolenv = Tools(self)

    def arm(self, hangs: str) -> Hang:
        """Let the next call of a kind hang."""
        self.hangs, self.hang = hangs, Hang()
        return self.hang


def two_steps(request: ChatRequest) -> object:
    is_first = all(message.role != "tool" for message in request.messages)
    return reply((HELLO_NAME, "{}")) if is_first else answer("hi")


class Engine(ScriptedModel):
    """A scripted model as an engine of the language-model service."""

    def __init__(self, world: World) -> None:
        super().__init__(two_steps)
        self._world = world
        self.info = ModelInfo(model="scripted")

    async def describe(self) -> ModelInfo:
        return self.info

    async def complete(self, request: ChatRequest) -> Completion:
        if self._world.hangs == "model":
            await self._world.hang.forever()
        return await super().complete(request)


class Tools(FakeToolEnv):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    async def invoke(self, call: ToolCall) -> Observation:
        if self._world.hangs == "tool":
            await self._world.hang.forever()
        return await super().invoke(call)


@asynccontextmanager
async def gateway(planner: PlannerService | HttpPlanner) -> AsyncIterator[httpx.AsyncClient]:
    backends = Backends(
        planner=planner,
        retriever=IndexedRetriever([HELLO]),
        toolenv=FakeToolEnv(),
        limits=Limits(),
        max_concurrent_runs=8,
        control=planner,
    )
    app = build_app(GatewaySettings(), lambda: opened(backends))
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        yield http


@asynccontextmanager
async def opened(service: object) -> AsyncIterator[object]:
    yield service


def service_of(world: World, model: ChatModel, toolenv: ToolEnv) -> PlannerService:
    return PlannerService(
        model=model,
        toolenv=toolenv,
        retriever=IndexedRetriever([HELLO]),
        options=PlannerOptions(stream_model=world.streams),
    )


@asynccontextmanager
async def in_one_process(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(service_of(world, world.model, world.toolenv)) as http:
        yield http


@asynccontextmanager
async def over_http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:

        async def client(service: object, router: object) -> httpx.AsyncClient:
            app = create_app(title="x", routers=[router], open_service=lambda: opened(service))
            url = await stack.enter_async_context(serve(app))
            opening = httpx.AsyncClient(base_url=url, trust_env=False)
            return await stack.enter_async_context(opening)

        llm = LlmService(engine=world.model, max_inside=8)
        model = HttpChatModel(await client(llm, llm_router))
        toolenv = HttpToolEnv(await client(world.toolenv, toolenv_router))
        planner = service_of(world, model, toolenv)
        served = HttpPlanner(await client(planner, planner_router))
        yield await stack.enter_async_context(gateway(served))


Composition = Callable[[World], AbstractAsyncContextManager[httpx.AsyncClient]]
COMPOSITIONS = pytest.mark.parametrize(
    "composed", [in_one_process, over_http], ids=["in_one_process", "over_http"]
)
STREAMING = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
HELLO_PLEASE = {"text": "say hello"}


@COMPOSITIONS
@STREAMING
async def test_what_a_run_waits_for_ends_with_it(composed: Composition, streams: bool) -> None:
    world = World(streams=streams)
    async with asyncio.timeout(30), composed(world) as http:
        for hangs in ("model", "tool"):
            for path in ("/stream", "/v1/runs"):
                await leave(http, path, world.arm(hangs))
            await cancel(http, world.arm(hangs))


async def leave(http: httpx.AsyncClient, path: str, hang: Hang) -> None:
    """A client closes its connection."""
    async with http.stream("POST", path, json=HELLO_PLEASE):
        await hang.began.wait()
    async with asyncio.timeout(_WITHIN_S):
        await hang.ended.wait()


async def cancel(http: httpx.AsyncClient, hang: Hang) -> None:
    """Somebody cancels the run; its reader is told."""
    async with http.stream("POST", "/v1/runs", json=HELLO_PLEASE) as stream:
        await hang.began.wait()
        async with asyncio.timeout(_WITHIN_S):
            done = await http.post(f"/v1/runs/{stream.headers['X-Run-Id']}/cancel")
            last = [line async for line in stream.aiter_lines()][-1]
            await hang.ended.wait()
    assert (done.status_code, '"kind":"cancelled"' in last) == (204, True)


async def test_a_call_whose_caller_leaves_ends() -> None:
    world = World()
    service = world.toolenv
    app = create_app(title="x", routers=[toolenv_router], open_service=lambda: opened(service))
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        hang = world.arm("tool")
        made = HttpToolEnv(http).invoke(ToolCall(api=HELLO, arguments_text="{}"))
        call = asyncio.create_task(made)
        await hang.began.wait()
        call.cancel()
        async with asyncio.timeout(_WITHIN_S):
            await hang.ended.wait()


async def test_a_run_is_one_trace_through_all_services() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(provider.get_tracer("test")):
        async with over_http(World()) as http:
            await http.post("/v1/runs", json=HELLO_PLEASE)
    spans = exporter.get_finished_spans()
    run = next(span for span in spans if span.name == "invoke_agent planner")
    trace = {span.name: span for span in spans if span.context.trace_id == run.context.trace_id}
    ids = {span.context.span_id: span.name for span in spans}
    assert ids[trace["POST /v1/complete"].parent.span_id] == "chat scripted"
    assert ids[trace["POST /v1/invoke"].parent.span_id] == f"execute_tool {HELLO}"
    assert ids[run.parent.span_id] == "POST /v1/solve"
    assert ids[trace["POST /v1/solve"].parent.span_id] == "POST /v1/runs"
