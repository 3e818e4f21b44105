"""Asking somebody before something is changed."""

import asyncio

import pytest

from services.contracts.apis import SideEffect
from services.contracts.errors import NotFound
from services.contracts.ids import RunId
from services.contracts.planner import ApprovalAsked, Limits
from services.planner.approvals import Approvals
from services.planner.budget import Budget, BudgetSpent
from services.planner.permission import NOT_ALLOWED, REFUSED, Asking, Permission, Question
from tests.fakes.planner_ports import HELLO, OTHER

pytestmark = pytest.mark.anyio

RUN = RunId("r1")
QUESTION = Question(HELLO, SideEffect.WRITE, '{"x": 1}')


class Caller:
    """Hears of questions and answers each at once, if it answers at all."""

    def __init__(self, *decisions: bool, deadline_s: float = 300.0) -> None:
        self.approvals = Approvals()
        self.heard: list[ApprovalAsked] = []
        self.was_told = asyncio.Event()
        self._decisions = list(decisions)
        self._budget = Budget(Limits(deadline_s=deadline_s))

    async def _hear(self, asked: ApprovalAsked) -> None:
        self.heard.append(asked)
        self.was_told.set()
        if self._decisions:
            self.approvals.decide(RUN, asked.call_id, approve=self._decisions.pop(0))

    def permission(self, *, timeout_s: float = 60.0) -> Permission:
        asking = Asking(
            run_id=RUN,
            approvals=self.approvals,
            emit=self._hear,
            budget=self._budget,
            timeout_s=timeout_s,
        )
        return Permission(allow_writes=True, ask=asking)


async def test_an_approved_call_may_be_made_and_the_caller_was_told_of_it() -> None:
    caller = Caller(True)
    assert await caller.permission().refusal(QUESTION, call_id=7) is None
    (asked,) = caller.heard
    assert (asked.call_id, asked.api, asked.effect) == (7, HELLO, SideEffect.WRITE)
    assert (asked.arguments, asked.expires_in_s) == ('{"x": 1}', 60.0)


async def test_asking_wins_over_a_general_permission() -> None:
    assert await Caller(False).permission().refusal(QUESTION, call_id=1) == REFUSED


async def test_what_was_refused_is_not_asked_again_but_another_call_is() -> None:
    caller = Caller(False, True)
    permission = caller.permission()
    assert await permission.refusal(QUESTION, call_id=1) == REFUSED
    assert await permission.refusal(QUESTION, call_id=2) == REFUSED
    assert await permission.refusal(QUESTION._replace(api=OTHER), call_id=3) is None
    assert [asked.call_id for asked in caller.heard] == [1, 3]


async def test_no_answer_in_time_is_a_refusal_that_may_be_asked_again() -> None:
    caller = Caller()
    permission = caller.permission(timeout_s=0.01)
    for call_id in (1, 2):
        assert "in time" in (await permission.refusal(QUESTION, call_id=call_id) or "")
    assert len(caller.heard) == 2


async def test_the_runs_deadline_ends_the_wait() -> None:
    caller = Caller(deadline_s=0.05)
    with pytest.raises(BudgetSpent):
        await caller.permission().refusal(QUESTION, call_id=1)
    assert caller.heard[0].expires_in_s <= 0.05


async def test_without_a_call_to_name_nobody_is_asked() -> None:
    caller = Caller(True)
    assert await caller.permission().refusal(QUESTION, call_id=None) == REFUSED
    assert caller.heard == []


async def test_without_anybody_to_ask_the_rule_decides() -> None:
    assert await Permission().refusal(QUESTION, call_id=1) == NOT_ALLOWED
    assert await Permission(allow_writes=True).refusal(QUESTION, call_id=1) is None


async def test_a_decision_needs_a_call_that_waits() -> None:
    approvals = Approvals()
    with approvals.register(RUN, 1) as decision:
        for run_id, call_id in ((RUN, 2), (RunId("other"), 1)):
            with pytest.raises(NotFound, match=str(call_id)):
                approvals.decide(run_id, call_id, approve=True)
        assert not decision.done()


async def test_a_decision_is_final_and_ends_with_the_wait() -> None:
    approvals = Approvals()
    with approvals.register(RUN, 1) as decision:
        approvals.decide(RUN, 1, approve=True)
        with pytest.raises(NotFound):
            approvals.decide(RUN, 1, approve=False)
        assert await decision
    with pytest.raises(NotFound):
        approvals.decide(RUN, 1, approve=True)


async def test_an_abandoned_wait_takes_no_decision() -> None:
    caller = Caller()
    task = asyncio.create_task(caller.permission().refusal(QUESTION, call_id=1))
    await caller.was_told.wait()
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(NotFound):
        caller.approvals.decide(RUN, 1, approve=True)
