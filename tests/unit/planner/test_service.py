"""The planner as a port: action spaces, failures, cancellation, deadlines."""

import asyncio

import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import (
    FailedPrecondition,
    InvalidArgument,
    Unavailable,
)
from services.contracts.planner import Limits, ModelDelta, ModelReplied, SolveRequest
from services.planner.service import PlannerOptions, PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    OTHER_NAME,
    FakeRetriever,
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    reply,
)

pytestmark = pytest.mark.anyio

CLOSED = SolveRequest(instruction="say hello", apis=(OTHER, HELLO))
OPEN = SolveRequest(instruction="say hello", top_k=1)
STEP = reply((HELLO_NAME, "{}"), thought="go on")


def planner(
    model: ScriptedModel,
    *,
    toolenv: FakeToolEnv | None = None,
    retriever: FakeRetriever | None = None,
    options: PlannerOptions | None = None,
) -> PlannerService:
    return PlannerService(
        model=model, toolenv=toolenv or FakeToolEnv(), retriever=retriever, options=options
    )


async def test_a_closed_domain_is_shown_in_the_requests_order() -> None:
    events = await events_of(planner(ScriptedModel([answer("hi")])), CLOSED)
    assert [f.name for f in events[0].functions] == [OTHER_NAME, HELLO_NAME, "Finish"]
    assert events[0].function_apis == {OTHER_NAME: OTHER, HELLO_NAME: HELLO}
    assert events[0].retrieved == ()


async def test_an_open_domain_is_what_the_retriever_finds() -> None:
    retriever = FakeRetriever([HELLO, OTHER])
    events = await events_of(planner(ScriptedModel([answer("hi")]), retriever=retriever), OPEN)
    assert [hit.api for hit in events[0].retrieved] == [HELLO]
    assert (retriever.requests[0].query, retriever.requests[0].top_k) == ("say hello", 1)


async def test_a_retrieved_api_that_has_left_the_catalogue_is_left_out() -> None:
    gone = ApiRef(category="A", tool="b", api="c")
    request = OPEN.model_copy(update={"top_k": 2})
    retriever = FakeRetriever([gone, HELLO])
    events = await events_of(planner(ScriptedModel([answer("hi")]), retriever=retriever), request)
    assert [f.name for f in events[0].functions] == [HELLO_NAME, "Finish"]


async def test_an_unknown_api_is_named_before_anything_happens() -> None:
    model = ScriptedModel([])
    request = CLOSED.model_copy(update={"apis": (HELLO, ApiRef(category="A", tool="b", api="c"))})
    with pytest.raises(InvalidArgument, match="A/b/c"):
        await events_of(planner(model), request)
    assert model.requests == []


async def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="'NOPE'"):
        await events_of(planner(ScriptedModel([])), CLOSED.model_copy(update={"method": "NOPE"}))


async def test_a_failing_model_ends_the_run_as_an_event() -> None:
    events = await events_of(planner(ScriptedModel([STEP, Unavailable("model is gone")])), CLOSED)
    end = end_of(events)
    assert (end.kind, end.problem.code, end.llm_calls) == ("failed", "unavailable", 1)
    assert end.record is None


async def test_a_failing_tool_environment_ends_the_run_as_an_event() -> None:
    toolenv = FakeToolEnv(error=Unavailable("sandbox is gone"))
    end = end_of(await events_of(planner(ScriptedModel([STEP]), toolenv=toolenv), CLOSED))
    assert (end.kind, end.problem.detail) == ("failed", "sandbox is gone")


async def test_a_failing_retriever_ends_the_run_as_its_only_event() -> None:
    retriever = FakeRetriever([], error=FailedPrecondition("no index"))
    events = await events_of(planner(ScriptedModel([]), retriever=retriever), OPEN)
    assert [event.kind for event in events] == ["failed"]
    assert end_of(events).problem.code == "failed_precondition"


async def test_a_planner_without_retriever_says_what_to_do() -> None:
    end = end_of(await events_of(planner(ScriptedModel([])), OPEN))
    assert end.kind == "failed"
    assert "name some in `apis`" in end.reason


async def test_a_defect_in_a_port_is_not_raised_into_the_callers_loop() -> None:
    end = end_of(await events_of(planner(ScriptedModel([STEP])), CLOSED))
    assert (end.kind, end.problem.code) == ("failed", "internal")


async def test_the_deadline_ends_a_run_that_waits() -> None:
    model = ScriptedModel([answer("late")], delay_s=5)
    request = CLOSED.model_copy(update={"limits": Limits(deadline_s=0.1)})
    end = end_of(await events_of(planner(model), request))
    assert (end.kind, end.reason) == ("exhausted", "deadline_s=0.1 was reached")
    assert end.seconds < 2


async def test_replies_are_passed_on_piece_by_piece_when_asked_for() -> None:
    model = ScriptedModel([answer("hi", "one two")])
    options = PlannerOptions(stream_model=True)
    events = await events_of(planner(model, options=options), CLOSED)
    assert [e.text for e in events if isinstance(e, ModelDelta)] == ["one", "two"]
    assert sum(isinstance(event, ModelReplied) for event in events) == 1


async def test_closing_the_iterator_stops_the_run() -> None:
    model = ScriptedModel(lambda _: STEP)
    service = planner(model, options=PlannerOptions(max_runs=1))
    run = service.solve(CLOSED)
    await anext(run)
    await anext(run)
    await run.aclose()
    asked = len(model.requests)
    await asyncio.sleep(0.01)
    assert len(model.requests) == asked
    # The only slot is free again.
    assert (await anext(service.solve(CLOSED))).kind == "retrieved"


async def test_closing_the_iterator_in_mid_reply_closes_the_models_stream() -> None:
    model = ScriptedModel([answer("hi", "word " * 100)])  # more than may be unread
    run = planner(model, options=PlannerOptions(stream_model=True)).solve(CLOSED)
    async for event in run:
        if event.kind == "model_delta":
            break
    await run.aclose()
    assert model.closed_streams == 1


async def test_one_run_too_many_waits_for_its_turn() -> None:
    model = ScriptedModel(lambda _: answer("hi"), delay_s=0.05)
    service = planner(model, options=PlannerOptions(max_runs=1))
    first = service.solve(CLOSED)
    await anext(first)
    second = service.solve(CLOSED)
    queued = await anext(second)
    await first.aclose()
    events = [event async for event in second]
    assert (queued.kind, queued.position, queued.sequence) == ("queued", 1, 0)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert end_of(events).answer == "hi"


async def test_runs_at_once_keep_to_themselves() -> None:
    def echo(request: object) -> object:
        return answer(request.messages[1].content)

    service = planner(ScriptedModel(echo, delay_s=0.01))
    requests = [CLOSED.model_copy(update={"instruction": f"ask {i}"}) for i in range(20)]
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(events_of(service, request)) for request in requests]
    assert [end_of(run.result()).answer for run in runs] == [f"ask {i}" for i in range(20)]


async def test_a_conversation_too_long_for_the_model_only_ends_its_branch() -> None:
    model = ScriptedModel(
        [STEP, InvalidArgument("too long"), InvalidArgument("too long"), answer("x")]
    )
    end = end_of(await events_of(planner(model), CLOSED))
    assert (end.kind, end.answer) == ("answered", "x")
