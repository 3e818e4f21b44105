"""Calls ahead of time: the same tree, fewer waits, a bounded number of calls for nothing."""

import asyncio

import pytest

from services.contracts.apis import InverseCall, SideEffect
from services.contracts.compat import NONE
from services.contracts.errors import Unavailable
from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import Limits, Mode, PlanEvent, SolveRequest, ToolStarted
from services.contracts.toolbench.functions import finish_function
from services.contracts.toolenv import Observation, ToolCall
from services.planner.action_space import ActionSpace
from services.planner.budget import Budget
from services.planner.service import PlannerService
from services.planner.speculation import Allowance, GuessEndsError, Speculation
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    events_of,
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio

ASKED = ChatRequest(messages=(Message(role="user", content="a"),))
OTHERWISE = ChatRequest(messages=(Message(role="user", content="b"),))
CALL = ToolCall(api=HELLO, arguments_text="{}")
CLOSED = SolveRequest(instruction="say hello", apis=(HELLO,))
EXTRA = {"extra_llm_calls", "extra_tool_calls", "extra_usage"}


def late_answer(request: ChatRequest) -> Message:
    """Gives up on every way but those that the second action at the root leads to."""
    replies = [each for each in request.messages if each.role == "assistant"]
    if len(replies) < 2:
        return reply((HELLO_NAME, f'{{"n": {len(request.messages)}}}'))
    return answer("found") if "3" in replies[0].tool_calls[0].arguments else give_up()


def space(effect: SideEffect = SideEffect.READ) -> ActionSpace:
    documents = [document(HELLO, declared_effect=effect), document(OTHER, method="GET")]
    return ActionSpace(documents, compat=NONE, finish=finish_function())


def speculation(
    model: ScriptedModel, toolenv: FakeToolEnv | None = None, limits: Limits | None = None
) -> Speculation:
    found = Speculation(
        model=model,
        toolenv=toolenv or FakeToolEnv(),
        allowance=Allowance(advance=2),
        limits=limits or Limits(),
    )
    found.bound(2)
    return found


def outline(events: list[PlanEvent]) -> list[dict[str, object]]:
    unlike = {"latency_s", "seconds", "run_id", *EXTRA}
    return [event.model_dump(exclude=unlike) for event in events]


async def solve(mode: Mode, model: ScriptedModel, toolenv: FakeToolEnv) -> list[PlanEvent]:
    planner = PlannerService(model=model, toolenv=toolenv, retriever=None)
    return await events_of(planner, CLOSED.model_copy(update={"mode": mode}))


async def test_the_events_are_those_of_the_exact_search() -> None:
    exact = await solve("exact", ScriptedModel(late_answer), FakeToolEnv())
    ahead = await solve("speculative", ScriptedModel(late_answer, delay_s=0.001), FakeToolEnv())
    assert end_of(exact).answer == "found"
    assert outline(ahead) == outline(exact)


async def test_calls_are_made_while_others_are_under_way() -> None:
    in_flight, most = 0, 0

    class Counting(ScriptedModel):
        async def complete(self, request):  # type: ignore[no-untyped-def]
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            try:
                return await super().complete(request)
            finally:
                in_flight -= 1

    await solve("speculative", Counting(late_answer, delay_s=0.001), FakeToolEnv())
    assert most > 1
    assert in_flight == 0


async def test_every_call_of_the_model_is_counted_as_used_or_as_extra() -> None:
    model = ScriptedModel(late_answer, delay_s=0.001)
    end = end_of(await solve("speculative", model, FakeToolEnv()))
    assert end.llm_calls + end.extra_llm_calls == len(model.requests)


async def test_a_call_that_changes_something_is_never_made_ahead_of_time() -> None:
    documents = [document(HELLO, declared_effect=SideEffect.WRITE)]
    calls = {}
    for mode in ("exact", "speculative"):
        toolenv = FakeToolEnv(documents)
        planner = PlannerService(
            model=ScriptedModel(late_answer, delay_s=0.001), toolenv=toolenv, retriever=None
        )
        request = CLOSED.model_copy(update={"mode": mode, "allow_writes": True})
        await events_of(planner, request)
        calls[mode] = [call.arguments_text for call in toolenv.calls]
    assert calls["speculative"] == calls["exact"]


async def test_ports_ahead_refuse_a_write() -> None:
    toolenv = FakeToolEnv()
    ahead = speculation(ScriptedModel([]), toolenv).ports_ahead(space(SideEffect.WRITE))
    with pytest.raises(GuessEndsError):
        await ahead.toolenv.invoke(CALL)
    assert toolenv.calls == []


async def test_a_kept_reply_serves_one_equal_request_once() -> None:
    model = ScriptedModel([answer("ahead"), answer("in time")])
    kept = speculation(model)
    ahead = await kept.ports_ahead(space()).model.complete(ASKED)
    assert await kept.model.complete(ASKED) is ahead
    assert await kept.model.complete(ASKED) is not ahead


async def test_another_request_is_not_served_by_a_kept_reply() -> None:
    model = ScriptedModel([answer("ahead"), answer("in time")])
    kept = speculation(model)
    ahead = await kept.ports_ahead(space()).model.complete(ASKED)
    assert await kept.model.complete(OTHERWISE) is not ahead


async def test_a_failed_call_ahead_is_made_again_in_time() -> None:
    kept = speculation(ScriptedModel([Unavailable("gone"), answer("in time")]))
    with pytest.raises(Unavailable):
        await kept.ports_ahead(space()).model.complete(ASKED)
    completion = await kept.model.complete(ASKED)
    assert "in time" in completion.message.tool_calls[0].arguments


async def test_a_run_may_not_have_more_unused_calls_than_its_bound() -> None:
    kept = speculation(ScriptedModel(lambda _: answer("x")))
    ahead = kept.ports_ahead(space()).model
    await ahead.complete(ASKED)
    await ahead.complete(OTHERWISE)
    with pytest.raises(GuessEndsError):
        await ahead.complete(ASKED.model_copy(update={"seed": 1}))


async def test_lost_calls_are_booked_and_use_up_the_allowance() -> None:
    allowance, budget = Allowance(share=0.5, advance=0), Budget(CLOSED.limits)
    kept = Speculation(
        model=ScriptedModel(lambda _: answer("x")),
        toolenv=FakeToolEnv(),
        allowance=allowance,
        limits=CLOSED.limits,
    )
    kept.bound(1)
    async with kept.open(budget):
        await kept.ports_ahead(space()).model.complete(ASKED)
    assert (budget.extra_llm_calls, budget.extra_usage.total_tokens) == (1, 12)
    assert not allowance.has_room
    allowance.used = 2
    assert allowance.has_room


async def test_a_call_ahead_that_failed_counts_as_lost() -> None:
    budget = Budget(CLOSED.limits)
    kept = speculation(ScriptedModel([Unavailable("gone"), answer("in time")]))
    ahead = kept.ports_ahead(space()).model

    async def guess() -> None:
        await ahead.complete(ASKED)

    async with kept.open(budget):
        kept.start(guess)
        await asyncio.sleep(0)
        await kept.model.complete(ASKED)  # waits for the guess first
    assert budget.extra_llm_calls == 1


async def test_what_was_read_ahead_is_out_of_date_after_a_change_of_any_tool() -> None:
    toolenv, budget = FakeToolEnv(), Budget(CLOSED.limits)
    kept = speculation(ScriptedModel([]), toolenv)
    ahead = kept.ports_ahead(space(SideEffect.WRITE)).toolenv
    read = ToolCall(api=OTHER, arguments_text="{}")
    async with kept.open(budget):
        await ahead.invoke(read)
        await kept.toolenv.invoke(CALL)
        await kept.toolenv.invoke(read)
    assert [call.api for call in toolenv.calls] == [OTHER, HELLO, OTHER]
    assert budget.extra_tool_calls == 1


async def test_what_is_read_while_a_change_is_under_way_is_not_used() -> None:
    kept: Speculation
    read = ToolCall(api=OTHER, arguments_text="{}")

    class Reading(FakeToolEnv):
        async def invoke(self, call: ToolCall) -> Observation:
            if call.api == HELLO:
                await ahead.invoke(read)
            return await super().invoke(call)

    toolenv = Reading()
    kept = speculation(ScriptedModel([]), toolenv)
    ahead = kept.ports_ahead(space(SideEffect.WRITE)).toolenv
    await kept.toolenv.invoke(CALL)
    await kept.toolenv.invoke(read)
    assert [call.api for call in toolenv.calls] == [OTHER, HELLO, OTHER]


async def test_the_inverse_of_a_change_is_no_read() -> None:
    inverse = InverseCall(api=OTHER)
    documents = [
        document(HELLO, method="POST", inverse=inverse),
        document(OTHER, method="GET"),
    ]
    kept = speculation(ScriptedModel([]))
    spaced = ActionSpace(documents, compat=NONE, finish=finish_function())
    with pytest.raises(GuessEndsError):
        await kept.ports_ahead(spaced).toolenv.invoke(ToolCall(api=OTHER, arguments_text="{}"))


async def test_a_defect_that_only_a_guess_meets_does_not_fail_the_run() -> None:
    kept = speculation(ScriptedModel([]))

    async def search() -> None:
        raise KeyError("defect")

    async with kept.open(Budget(CLOSED.limits)):
        kept.start(search)
        await asyncio.sleep(0)


async def test_searches_ahead_end_with_the_run() -> None:
    kept = speculation(ScriptedModel([]))
    is_cancelled = asyncio.Event()

    async def search() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()

    async with kept.open(Budget(CLOSED.limits)):
        kept.start(search)
        await asyncio.sleep(0)
    assert is_cancelled.is_set()


async def test_calls_of_one_reply_are_under_way_together_and_told_in_order() -> None:
    class Meeting(FakeToolEnv):
        """The first call's answer waits for the second call."""

        second = asyncio.Event()

        async def invoke(self, call: ToolCall) -> Observation:
            if call.arguments_text == '{"n": 2}':
                self.second.set()
            async with asyncio.timeout(5):
                await self.second.wait()
            return await super().invoke(call)

    replies = [reply((HELLO_NAME, '{"n": 1}'), (HELLO_NAME, '{"n": 2}')), answer("done")]
    events = await solve("parallel", ScriptedModel(replies), Meeting())
    told = [event.arguments for event in events if isinstance(event, ToolStarted)]
    assert told[:2] == ['{"n": 1}', '{"n": 2}']
    assert end_of(events).answer == "done"
