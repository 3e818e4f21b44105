"""Runs that wait, are cancelled, and are many."""

import asyncio
import time

import pytest

from services.contracts.compat import TOOLBENCH
from services.contracts.context import deadline_in
from services.contracts.errors import NotFound
from services.contracts.ids import RunId
from services.contracts.planner import Limits, RunEnded, SolveRequest
from services.planner.service import PlannerOptions, PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    reply,
)

pytestmark = pytest.mark.anyio

CLOSED = SolveRequest(instruction="say hello", apis=(HELLO,))
STEP = reply((HELLO_NAME, "{}"), thought="go on")
NAMED = CLOSED.model_copy(update={"run_id": "mine"})


def planner(model: ScriptedModel, **options: object) -> PlannerService:
    return PlannerService(
        model=model, toolenv=FakeToolEnv(), retriever=None, options=PlannerOptions(**options)
    )


async def test_a_run_that_waits_can_be_cancelled() -> None:
    service = planner(ScriptedModel(lambda _: STEP, delay_s=60), max_runs=1)
    works = service.solve(CLOSED)
    await anext(works)
    waits = service.solve(NAMED)
    assert (await anext(waits)).kind == "queued"
    await service.cancel(RunId("mine"))
    end = end_of([event async for event in waits])
    assert (end.kind, end.run_id, end.sequence) == ("cancelled", "mine", 1)
    await works.aclose()


async def test_a_deadline_that_passes_while_a_run_waits_exhausts_it() -> None:
    service = planner(ScriptedModel(lambda _: STEP, delay_s=60), max_runs=1)
    works = service.solve(CLOSED)
    await anext(works)
    with deadline_in(0.1):
        end = end_of(await events_of(service, CLOSED))
    assert (end.kind, end.limit) == ("exhausted", "deadline_s")
    assert "had waited 0.1 s for its turn" in end.reason
    await works.aclose()


async def test_a_cancelled_run_says_what_it_has_spent() -> None:
    model = ScriptedModel(lambda request: STEP, delay_s=0.01)
    service = planner(model)
    run = service.solve(NAMED)
    async for event in run:
        if event.kind == "tool_finished":
            break
    await service.cancel(RunId("mine"))
    end = end_of([event async for event in run])
    assert (end.kind, end.tool_calls) == ("cancelled", 1)
    assert end.llm_calls >= 1


async def test_a_run_that_has_ended_keeps_its_end_though_nobody_has_read_it() -> None:
    service = planner(ScriptedModel(lambda _: answer("hi")))
    run = service.solve(NAMED)
    await anext(run)
    await asyncio.sleep(0.05)  # the end lies unread
    with pytest.raises(NotFound):
        await service.cancel(RunId("mine"))
    assert end_of([event async for event in run]).answer == "hi"


async def test_cancelling_twice_ends_once() -> None:
    service = planner(ScriptedModel(lambda _: STEP, delay_s=60))
    run = service.solve(NAMED)
    first = await anext(run)
    await service.cancel(RunId("mine"))
    await service.cancel(RunId("mine"))
    events = [first, *[event async for event in run]]
    assert [isinstance(event, RunEnded) for event in events].count(True) == 1


async def test_a_reader_that_does_not_read_keeps_no_other_run_waiting_once_cancelled() -> None:
    service = planner(ScriptedModel(lambda _: STEP), max_runs=1)
    stuck = service.solve(NAMED)
    await anext(stuck)
    await asyncio.sleep(0.05)  # as far ahead as unread events let it
    await service.cancel(RunId("mine"))
    async with asyncio.timeout(2):
        other = service.solve(CLOSED)
        while (event := await anext(other)).kind == "queued":
            pass
    assert event.kind == "retrieved"
    await other.aclose()
    await stuck.aclose()


async def test_a_reader_that_does_not_read_holds_its_run_no_longer_than_the_deadline() -> None:
    service = planner(ScriptedModel(lambda _: STEP), max_runs=1)
    limits = Limits(deadline_s=0.1, max_depth=500, max_llm_calls=1_000)
    stuck = service.solve(NAMED.model_copy(update={"limits": limits, "compat": TOOLBENCH}))
    first = await anext(stuck)
    async with asyncio.timeout(2):
        other = service.solve(CLOSED)
        while (await anext(other)).kind == "queued":
            pass
    with pytest.raises(NotFound):
        await service.cancel(RunId("mine"))
    events = [first, *[event async for event in stuck]]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert end_of(events).limit == "deadline_s"
    await other.aclose()


async def test_a_run_that_is_cancelled_and_left_at_once_ends() -> None:
    service = planner(ScriptedModel(lambda _: STEP), max_runs=1)
    run = service.solve(NAMED)
    await anext(run)
    await asyncio.sleep(0.05)  # as far ahead as unread events let it
    await service.cancel(RunId("mine"))
    async with asyncio.timeout(2):
        await run.aclose()
    with pytest.raises(NotFound):
        await service.cancel(RunId("mine"))


async def test_no_event_of_a_thousand_open_runs_is_lost_or_reordered() -> None:
    n_runs = 1_000
    model = ScriptedModel(lambda _: answer("hi"), delay_s=0.05)
    service = planner(model, max_runs=n_runs)

    async def sequences() -> list[int]:
        found = []
        async for event in service.solve(CLOSED):
            found.append(event.sequence)
            await asyncio.sleep(0)  # a reader slower than the run
        return found

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sequences()) for _ in range(n_runs)]
    lengths = {len(task.result()) for task in tasks}
    assert all(task.result() == list(range(len(task.result()))) for task in tasks)
    assert (len(lengths), len(model.requests)) == (1, n_runs)
    assert time.monotonic() - began < 20
