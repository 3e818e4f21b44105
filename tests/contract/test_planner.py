"""The `Planner` port: the same cases in process and over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import httpx
import pytest

from services.contracts.apis import ApiRef
from services.contracts.clients.planner import HttpPlanner
from services.contracts.compat import TOOLBENCH
from services.contracts.context import deadline_in
from services.contracts.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.contracts.ids import RunId
from services.contracts.planner import ForkRequest, Limits, Planner, RunEnded, SolveRequest
from services.kit.app import create_app
from services.planner.journal.shelf import Shelf
from services.planner.routes import router
from services.planner.service import PlannerOptions, PlannerService
from tests.fakes.loopback import serve
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeRetriever,
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio

Opener = Callable[[PlannerService], AbstractAsyncContextManager[Planner]]
STEP = reply((HELLO_NAME, "{}"), thought="go on")
CLOSED = SolveRequest(instruction="say hello", apis=(HELLO,), record=True)


@asynccontextmanager
async def in_process(service: PlannerService) -> AsyncIterator[Planner]:
    yield service


@asynccontextmanager
async def over_http(service: PlannerService) -> AsyncIterator[Planner]:
    app = create_app(title="planner", routers=[router], open_service=lambda: in_process(service))
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        yield HttpPlanner(http)


@pytest.fixture(params=[in_process, over_http], ids=["in_process", "http"])
def open_planner(request: pytest.FixtureRequest) -> Opener:
    return request.param


def service(model: ScriptedModel, **options: object) -> PlannerService:
    return PlannerService(
        model=model,
        toolenv=FakeToolEnv(),
        retriever=FakeRetriever([HELLO]),
        options=PlannerOptions(**options),
    )


async def test_events_are_numbered_without_gaps_and_end_once(open_planner: Opener) -> None:
    async with open_planner(service(ScriptedModel([STEP, give_up(), answer("hi")]))) as planner:
        events = await events_of(planner, CLOSED)
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [isinstance(event, RunEnded) for event in events].count(True) == 1
    end = end_of(events)
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "hi", 3)


async def test_both_bodies_tell_the_same(open_planner: Opener) -> None:
    model = ScriptedModel([STEP, give_up("no"), answer("hi")])
    async with open_planner(service(model, stream_model=True)) as planner:
        events = await events_of(planner, CLOSED)
    direct = ScriptedModel([STEP, give_up("no"), answer("hi")])
    expected = await events_of(service(direct, stream_model=True), CLOSED)
    varying = {"latency_s", "seconds", "run_id"}
    assert [event.model_dump(exclude=varying) for event in events] == [
        event.model_dump(exclude=varying) for event in expected
    ]


async def test_an_open_domain_starts_with_what_was_retrieved(open_planner: Opener) -> None:
    request = SolveRequest(instruction="say hello", method="react")
    async with open_planner(service(ScriptedModel([answer("hi")]))) as planner:
        events = await events_of(planner, request)
    assert [hit.api for hit in events[0].retrieved] == [HELLO]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": "NOPE"}, "'NOPE'"),
        ({"apis": (HELLO, ApiRef(category="A", tool="b", api="c"))}, "A/b/c"),
    ],
)
async def test_a_bad_request_is_refused_by_name(
    open_planner: Opener, changes: dict[str, object], named: str
) -> None:
    async with open_planner(service(ScriptedModel([]))) as planner:
        with pytest.raises(InvalidArgument, match=named):
            await events_of(planner, CLOSED.model_copy(update=changes))


async def test_a_failing_service_is_the_last_event(open_planner: Opener) -> None:
    async with open_planner(service(ScriptedModel([STEP, Unavailable("gone")]))) as planner:
        end = end_of(await events_of(planner, CLOSED))
    assert (end.kind, end.problem.code) == ("failed", "unavailable")


async def test_a_full_planner_says_so(open_planner: Opener) -> None:
    full = service(ScriptedModel(lambda _: STEP), max_runs=1, max_waiting_runs=0)
    running = full.solve(CLOSED)
    await anext(running)
    async with open_planner(full) as planner:
        with pytest.raises(ResourceExhausted, match="PLANNER_MAX_WAITING_RUNS"):
            await events_of(planner, CLOSED)
    await running.aclose()


async def test_closing_the_iterator_frees_the_planner(open_planner: Opener) -> None:
    model = ScriptedModel(lambda _: STEP, delay_s=0.01)
    small = service(model, max_runs=1)
    async with open_planner(small) as planner:
        run = planner.solve(CLOSED)
        await anext(run)
        await anext(run)
        await run.aclose()
        async with asyncio.timeout(5), aclosing(small.solve(CLOSED)) as again:
            async for event in again:  # over HTTP the server learns of it a moment later
                if event.kind == "retrieved":
                    break
    assert len(model.requests) < 126


async def test_a_cancelled_run_ends_as_such_for_its_reader(open_planner: Opener) -> None:
    model = ScriptedModel([answer("late")], delay_s=60)
    async with asyncio.timeout(5), open_planner(service(model)) as planner:
        events = []
        async for event in planner.solve(CLOSED.model_copy(update={"run_id": "mine"})):
            events.append(event)
            if event.kind == "expansion_started":
                await planner.cancel(RunId("mine"))
    assert (end_of(events).kind, end_of(events).run_id) == ("cancelled", "mine")
    assert [event.sequence for event in events] == list(range(len(events)))


async def test_what_is_not_going_on_cannot_be_cancelled_or_decided(open_planner: Opener) -> None:
    async with open_planner(service(ScriptedModel([answer("hi")]))) as planner:
        await events_of(planner, CLOSED.model_copy(update={"run_id": "mine"}))
        with pytest.raises(NotFound, match="'mine'"):
            await planner.cancel(RunId("mine"))
        with pytest.raises(NotFound):
            await planner.decide(RunId("mine"), 1, approve=True)


async def test_two_runs_of_one_name_cannot_go_on_at_once(open_planner: Opener) -> None:
    named = CLOSED.model_copy(update={"run_id": "mine"})
    async with open_planner(service(ScriptedModel(lambda _: STEP, delay_s=0.01))) as planner:
        first = planner.solve(named)
        await anext(first)
        with pytest.raises(FailedPrecondition, match="'mine' is going on already"):
            await events_of(planner, named)
        await first.aclose()


async def test_the_callers_deadline_ends_the_run(open_planner: Opener) -> None:
    model = ScriptedModel([answer("late")], delay_s=5)
    async with open_planner(service(model)) as planner:
        with deadline_in(0.5):
            end = end_of(await events_of(planner, CLOSED))
    assert end.kind == "exhausted"


async def test_a_benchmark_tree_at_its_depth_limit_is_recorded(open_planner: Opener) -> None:
    limits = Limits(max_depth=50, max_llm_calls=30)
    request = CLOSED.model_copy(update={"limits": limits, "compat": TOOLBENCH})
    model = ScriptedModel(lambda _: reply((HELLO_NAME, "{}"), (HELLO_NAME, "{}")))
    async with open_planner(service(model)) as planner:
        end = end_of(await events_of(planner, request))
    assert (end.kind, end.llm_calls) == ("exhausted", 30)
    assert end.record["tree"]["max_length"] == 53


async def test_methods_are_listed_over_http() -> None:
    made = service(ScriptedModel([]))
    app = create_app(title="planner", routers=[router], open_service=lambda: in_process(made))
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        listed = (await http.get("/v1/methods")).json()
        refused = await http.post("/v1/solve", content=b'{"instruction": ""}')
    assert "DFS_woFilter_w2" in listed["methods"]
    assert listed["aliases"]["react"] == "CoT@1"
    told = {info["example"]: info for info in listed["described"]}
    assert told["CoT@1"]["about"].startswith("up to `n_chains` chains")
    assert (told["CoT@1"]["asks_in_words"], told["BFS_w2"]["asks_in_words"]) == (False, True)
    assert refused.status_code == 400
    assert "instruction" in refused.json()["detail"]


async def test_kept_runs_are_listed_replayed_and_forked(open_planner: Opener, tmp_path) -> None:
    steps = iter([STEP, answer("hi"), answer("other")])
    made = PlannerService(
        model=ScriptedModel(lambda _: next(steps)),
        toolenv=FakeToolEnv(),
        retriever=None,
        shelf=Shelf(tmp_path),
    )
    request = CLOSED.model_copy(update={"run_id": "mine", "method": "CoT@1"})
    async with open_planner(made) as planner:
        first = await events_of(planner, request)
        again = [event async for event in planner.replay(RunId("mine"))]
        fork = ForkRequest(run_id="mine", node_id=0, new_run_id="yours")
        forked = [event async for event in planner.fork(fork)]
        kept = [summary.run_id for summary in await planner.runs()]
        listed = await planner.events(RunId("mine"))
        with pytest.raises(NotFound):
            await anext(planner.resume(RunId("nobodys")))
    assert [event.kind for event in again] == [event.kind for event in first]
    assert [event.kind for event in listed] == [event.kind for event in first]
    assert end_of(forked).answer == "other"
    assert sorted(kept) == ["mine", "yours"]
