"""The `RunKeeper` port: the same cases in process, over the planner's HTTP and the gateway's."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from gateway.app import build_app
from gateway.backends import Backends
from gateway.settings import GatewaySettings
from services.contracts.clients.planner import HttpPlanner
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound, ServiceError
from services.contracts.ids import RunId
from services.contracts.planner import ForkedAction, ForkRequest, Limits, RunKeeper
from services.kit.app import create_app
from services.planner.routes import router
from services.planner.service import PlannerService
from tests.fakes.gateway import IndexedRetriever
from tests.fakes.kept_runs import World, heard, request
from tests.fakes.loopback import serve
from tests.fakes.planner_ports import HELLO, OTHER_NAME, FakeToolEnv, end_of

pytestmark = pytest.mark.anyio

Opener = Callable[[PlannerService], AbstractAsyncContextManager[RunKeeper]]
RUN = RunId("r")


@asynccontextmanager
async def in_process(service: PlannerService) -> AsyncIterator[RunKeeper]:
    yield service


@asynccontextmanager
async def over_http(service: PlannerService) -> AsyncIterator[RunKeeper]:
    app = create_app(title="planner", routers=[router], open_service=lambda: in_process(service))
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        yield HttpPlanner(http)


@asynccontextmanager
async def over_gateway(service: PlannerService) -> AsyncIterator[RunKeeper]:
    @asynccontextmanager
    async def open_backends() -> AsyncIterator[Backends]:
        yield Backends(
            planner=service,
            retriever=IndexedRetriever([HELLO]),
            toolenv=FakeToolEnv(),
            limits=Limits(),
            max_concurrent_runs=1,
            keeper=service,
        )

    app = build_app(GatewaySettings(), open_backends)
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        yield HttpPlanner(http)


@pytest.fixture(params=[in_process, over_http, over_gateway])
def open_keeper(request: pytest.FixtureRequest) -> Opener:
    return request.param


async def test_a_run_is_replayed(open_keeper: Opener, tmp_path: Path) -> None:
    service = World(tmp_path).planner()
    told = await heard(service.solve(request(record=False)))
    async with open_keeper(service) as keeper:
        assert await heard(keeper.replay(RUN)) == told
        assert await keeper.events(RUN) == told


async def test_a_run_is_resumed_once(open_keeper: Opener, tmp_path: Path) -> None:
    world = World(tmp_path)
    told = await heard(world.planner().solve(request(record=False)))
    lines = world.file("r").read_bytes().splitlines(keepends=True)
    world.file("r").write_bytes(b"".join(lines[:4]))
    async with open_keeper(world.planner()) as keeper:
        resumed = await heard(keeper.resume(RUN))
        assert end_of(resumed).answer == end_of(told).answer
        assert end_of(resumed).llm_calls == end_of(told).llm_calls
        with pytest.raises(FailedPrecondition, match="has ended"):
            await heard(keeper.resume(RUN))


async def test_a_run_is_forked(open_keeper: Opener, tmp_path: Path) -> None:
    world = World(tmp_path)
    told = await heard(world.planner().solve(request(record=False)))
    node = next(e.input_node_id for e in told if e.kind == "tool_started")
    action = ForkedAction(function=OTHER_NAME, arguments='{"n": 7}')
    fork = ForkRequest(run_id=RUN, node_id=node, action=action, new_run_id=RunId("f"))
    async with open_keeper(world.planner()) as keeper:
        events = await heard(keeper.fork(fork))
    assert end_of(events).run_id == "f"
    assert [e.arguments for e in events if e.kind == "tool_started"][0] == '{"n": 7}'


async def test_what_cannot_be_done_is_refused_before_the_first_event(
    open_keeper: Opener, tmp_path: Path
) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    async with open_keeper(world.planner()) as keeper:
        with pytest.raises(NotFound):
            await heard(keeper.replay(RunId("nobody")))
        with pytest.raises(NotFound):
            await heard(keeper.fork(ForkRequest(run_id=RUN, node_id=9_999)))
        with pytest.raises(InvalidArgument):
            await heard(keeper.fork(ForkRequest(run_id=RUN, node_id=0, observation="x")))


async def test_the_gateway_does_not_list_runs(tmp_path: Path) -> None:
    async with over_gateway(World(tmp_path).planner()) as keeper:
        with pytest.raises(ServiceError, match="Method Not Allowed"):
            await keeper.runs()
