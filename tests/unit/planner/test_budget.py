"""Budgets: what is refused, and when."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, InvalidArgument
from services.contracts.llm import Usage
from services.contracts.planner import Limits
from services.planner.budget import Budget, BudgetSpent, Prices

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


async def test_calls_at_the_same_time_cannot_overrun_the_limit() -> None:
    budget = Budget(Limits(max_llm_calls=3))
    done: list[int] = []

    async def call(number: int) -> None:
        budget.check()
        await asyncio.sleep(0)
        budget.count_reply(Usage())
        done.append(number)

    results = await asyncio.gather(*map(call, range(5)), return_exceptions=True)
    assert (len(done), budget.llm_calls) == (3, 3)
    assert sum(isinstance(result, BudgetSpent) for result in results) == 2


def test_a_call_without_a_reply_gives_its_place_back() -> None:
    budget = Budget(Limits(max_llm_calls=1))
    budget.check()
    assert budget.refusal() is not None
    budget.forget_call()
    assert budget.refusal() is None


def test_calls_under_way_count_with_what_the_largest_one_took() -> None:
    budget = Budget(Limits(max_tokens=100))
    budget.count_reply(Usage(prompt_tokens=40))
    budget.check()
    budget.check()
    assert reason(budget) == "max_tokens=100 has no room for another call: 40 tokens"


@pytest.mark.parametrize("limits", [Limits(max_tokens=150), Limits(max_cost_usd=1.5)])
async def test_the_first_of_calls_at_the_same_time_shows_for_how_many_there_is_room(
    limits: Limits,
) -> None:
    budget = Budget(limits, prices=Prices(1e4, 1e4))

    async def call(number: int) -> None:
        await budget.begin_call()
        await asyncio.sleep(0)
        budget.count_reply(Usage(prompt_tokens=100))

    results = await asyncio.gather(*map(call, range(8)), return_exceptions=True)
    assert budget.llm_calls == 2  # one alone; then the one that may pass the limit
    assert sum(isinstance(result, BudgetSpent) for result in results) == 6


async def test_a_first_call_without_a_reply_lets_the_next_one_begin() -> None:
    budget = Budget(Limits(max_tokens=150))
    await budget.begin_call()
    waiting = asyncio.create_task(budget.begin_call())
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.forget_call()
    async with asyncio.timeout(5):
        await waiting


async def test_calls_at_the_same_time_begin_at_once_where_nothing_is_paid() -> None:
    budget = Budget(Limits())
    async with asyncio.timeout(5):
        await budget.begin_call()
        await budget.begin_call()
    assert budget.left().startswith(f"Left: {Limits().max_llm_calls - 1} of ")


def test_steps_are_counted_apart_from_other_calls() -> None:
    budget = Budget(Limits(max_steps=1))
    budget.check(step=True)
    budget.count_reply(Usage())
    budget.check()
    with pytest.raises(BudgetSpent, match="max_steps=1"):
        budget.check(step=True)


def test_money_is_counted_by_kind_of_token_with_calls_made_ahead() -> None:
    budget = Budget(Limits(), prices=Prices(1.0, 10.0))
    budget.count_reply(Usage(prompt_tokens=1_000_000, completion_tokens=100_000))
    budget.extra_usage = Usage(prompt_tokens=500_000)
    assert budget.cost_usd == pytest.approx(2.5)


def test_without_prices_there_is_no_cost_and_no_limit_of_it() -> None:
    assert Budget(Limits()).cost_usd is None
    with pytest.raises(InvalidArgument, match="PLANNER_USD_PER_MILLION"):
        Budget(Limits(max_cost_usd=1))


def test_the_kept_time_is_twice_the_slowest_reply_and_at_most_a_fifth() -> None:
    clock = Clock()
    budget = Budget(Limits(deadline_s=100), clock=clock, keeps_answer=True)
    budget.count_reply(Usage(), seconds=5.0)
    clock.now += 95
    assert budget.refusal() is None  # nothing was found that an answer could be made from
    budget.note_finding()
    assert reason(budget) == "deadline_s=100 was reached"
    clock.now -= 6
    assert budget.refusal() is None
    budget.count_reply(Usage(), seconds=50.0)
    assert budget.refusal() is not None  # 20 s are kept, 11 s are left


def test_the_kept_slice_is_free_for_the_last_call() -> None:
    budget = Budget(Limits(max_llm_calls=5), keeps_answer=True)
    budget.note_finding()
    for _ in range(4):
        budget.check()
        budget.count_reply(Usage())
    assert reason(budget) == "max_llm_calls=5 was reached"
    budget.open_answer()
    budget.check()


def test_what_is_left_names_every_limit_that_is_set() -> None:
    clock = Clock()
    limits = Limits(max_llm_calls=20, max_tool_calls=9, max_tokens=500, deadline_s=60)
    budget = Budget(limits, clock=clock)
    budget.count_reply(Usage(prompt_tokens=100))
    budget.begin_tool_call()
    clock.now += 19
    budget.check()
    assert budget.left() == ("Left: 19 of 20 model calls, 8 of 9 tool calls, 400 tokens, 41 s.")


@given(
    limit=st.integers(1, 30),
    keeps=st.booleans(),
    moves=st.lists(st.sampled_from(["begin", "reply", "fail", "find"]), max_size=120),
)
def test_no_order_of_calls_overruns_the_limit(limit: int, keeps: bool, moves: list[str]) -> None:
    budget = Budget(Limits(max_llm_calls=limit), keeps_answer=keeps)
    under_way = 0
    for move in moves:
        if move == "begin" and budget.refusal() is None:
            budget.check()
            under_way += 1
        elif move == "reply" and under_way:
            budget.count_reply(Usage())
            under_way -= 1
        elif move == "fail" and under_way:
            budget.forget_call()
            under_way -= 1
        elif move == "find":
            budget.note_finding()
        assert budget.llm_calls + under_way <= limit
