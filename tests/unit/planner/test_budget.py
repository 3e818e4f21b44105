"""Budgets: what is refused, and when."""

import asyncio

import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded
from services.contracts.llm import Usage
from services.contracts.planner import Limits
from services.planner.budget import Budget, BudgetSpent

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def reason(budget: Budget) -> str:
    refusal = budget.refusal()
    assert refusal is not None
    return refusal.reason


def test_calls_are_refused_once_the_limit_was_reached() -> None:
    budget = Budget(Limits(max_llm_calls=2))
    assert budget.refusal() is None
    budget.count_reply(Usage())
    budget.count_reply(Usage())
    assert reason(budget) == "max_llm_calls=2 was reached"


def test_tokens_are_summed_over_the_run() -> None:
    budget = Budget(Limits(max_tokens=25))
    budget.count_reply(Usage(prompt_tokens=10, completion_tokens=5))
    assert budget.refusal() is None
    budget.count_reply(Usage(prompt_tokens=10))
    assert reason(budget) == "max_tokens=25 was reached: 25 tokens"


def test_time_is_measured_from_the_start_and_capped_by_the_service() -> None:
    clock = Clock()
    budget = Budget(Limits(deadline_s=300), max_deadline_s=10, clock=clock)
    clock.now += 9.5
    assert budget.refusal() is None
    clock.now += 1
    assert reason(budget) == "deadline_s=10 was reached"


async def test_a_wait_ends_at_the_runs_deadline() -> None:
    budget = Budget(Limits(deadline_s=0.05))
    with pytest.raises(BudgetSpent, match="deadline_s"):
        async with budget.wait():
            await asyncio.sleep(5)


async def test_a_wait_ends_at_the_callers_deadline() -> None:
    budget = Budget(Limits(deadline_s=300))
    with deadline_in(0.05), pytest.raises(BudgetSpent):
        async with budget.wait():
            await asyncio.sleep(5)


async def test_a_service_that_gives_up_early_is_to_blame_itself() -> None:
    budget = Budget(Limits(deadline_s=300))
    with pytest.raises(DeadlineExceeded):
        async with budget.wait():
            raise DeadlineExceeded("the model was silent for 1.0 s")


async def test_nothing_is_begun_after_the_deadline() -> None:
    clock = Clock()
    budget = Budget(Limits(deadline_s=1), clock=clock)
    clock.now += 2
    with pytest.raises(BudgetSpent):
        async with budget.wait():
            pytest.fail("the block must not run")


def test_the_callers_deadline_is_not_called_the_runs_own() -> None:
    with deadline_in(0.0):
        refusal = Budget(Limits(deadline_s=300)).refusal()
    assert refusal is not None
    assert refusal.reason.startswith("the caller's deadline was reached")
