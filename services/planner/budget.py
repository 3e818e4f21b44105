"""What a run may still spend: steps, model calls, tool calls, tokens, money, seconds.

Calls that run at the same time cannot overrun a limit: a call is counted when it is let begin
(`check`) and booked when its reply is there (`count_reply`); until then it holds its place.

An anytime run keeps a slice of each budget back for one last model call that answers from what was
found (Dean and Boddy 1988, anytime algorithms: one that is interrupted still gives a result). The
slice is kept from the moment on at which there is something to answer from, and where it is at most
a fifth of the budget: of few calls the search itself makes more.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from services.contracts.context import deadline_in, remaining_s
from services.contracts.errors import DeadlineExceeded, InvalidArgument
from services.contracts.llm import Usage
from services.contracts.planner import LimitName, Limits, ReplyReading

_ALMOST_S = 0.05  # a service that stops at our own deadline answers a little before it
_ANSWER_SHARE = 0.2  # of a budget, at most: the search must keep most of it
_ANSWER_REPLIES = 2.0  # the last prompt is long, and a server's latency varies
_ANSWER_MAX_S = 30.0
_MILLION = 1_000_000


class Spent(NamedTuple):
    """The budget that ended a run."""

    limit: LimitName
    reason: str
    """For people: the limit with its value, and what reached it."""


class Prices(NamedTuple):
    """What the model's tokens cost."""

    usd_per_million_prompt_tokens: float
    usd_per_million_completion_tokens: float

    def of(self, usage: Usage) -> float:
        """US dollars for these tokens."""
        return (
            usage.prompt_tokens * self.usd_per_million_prompt_tokens
            + usage.completion_tokens * self.usd_per_million_completion_tokens
        ) / _MILLION


def require_prices(limits: Limits, prices: Prices | None) -> None:
    """Refuse a limit that nothing can be held against.

    Raises:
        InvalidArgument: `max_cost_usd` is set and there are no prices.
    """
    if limits.max_cost_usd is not None and prices is None:
        raise InvalidArgument(
            "max_cost_usd needs a price list and this planner has none; set "
            "PLANNER_USD_PER_MILLION_PROMPT_TOKENS and "
            "PLANNER_USD_PER_MILLION_COMPLETION_TOKENS"
        )


class BudgetSpent(Exception):
    """A budget ended the run."""

    def __init__(self, spent: Spent) -> None:
        super().__init__(spent.reason)
        self.spent = spent


class Budget:
    """Counts one run's spending against its limits. Not shared between runs."""

    def __init__(
        self,
        limits: Limits,
        *,
        max_deadline_s: float = 86_400.0,
        clock: Callable[[], float] = time.monotonic,
        prices: Prices | None = None,
        keeps_answer: bool = False,
    ) -> None:
        """Start the clock.

        Args:
            limits: The run's limits.
            max_deadline_s: The service's own cap on a run's wall clock, seconds.
            clock: Monotonic time, seconds.
            prices: Of the model's tokens, where they are known.
            keeps_answer: Keep a slice for one last model call, see the module.

        Raises:
            InvalidArgument: `max_cost_usd` is set and there are no prices.
        """
        require_prices(limits, prices)
        self.limits = limits
        self.llm_calls = 0
        self.tool_calls = 0
        self.steps = 0
        """Expansions that began."""
        self.usage = Usage()
        self.readings: Counter[ReplyReading] = Counter()
        """How many replies of each kind the run had."""
        self.reused_observations = 0
        self.extra_llm_calls = 0
        """Made ahead of time and never used; counted against no limit, see `Speculation`."""
        self.extra_tool_calls = 0
        """The same, of tools."""
        self.extra_usage = Usage()
        self._prices = prices
        self._keeps_answer = keeps_answer
        self._has_findings = False
        self._begun = 0
        """Model calls that were let begin and are not booked yet."""
        self._largest = Usage()
        """Of one reply; what a call that has not ended is taken to cost."""
        self._call_ended = asyncio.Event()
        self._slowest_s = 0.0
        self._clock = clock
        self._started = clock()
        self._deadline_s = min(limits.deadline_s, max_deadline_s)

    def fork(self) -> "Budget":
        """One for work ahead of time: it begins with what is spent now, and counts for itself.

        Its clock is its own and starts anew, so that work ahead leaves this budget's readings
        alone.
        """
        forked = Budget(self.limits, max_deadline_s=self._deadline_s, prices=self._prices)
        forked.llm_calls, forked.tool_calls = self.llm_calls, self.tool_calls
        forked.steps, forked.usage = self.steps, self.usage
        return forked

    @property
    def deadline_s(self) -> float:
        """Wall clock that the run may take, seconds; its caller's own deadline may be shorter."""
        return self._deadline_s

    @property
    def seconds(self) -> float:
        """Wall clock since the run began."""
        return self._clock() - self._started

    @property
    def cost_usd(self) -> float | None:
        """Price of all tokens, unused calls made ahead included; `None` without prices."""
        return None if self._prices is None else self._prices.of(self.usage + self.extra_usage)

    @property
    def calls_are_spent(self) -> bool:
        """The number of model calls has reached its limit."""
        return self.llm_calls >= self.limits.max_llm_calls

    @property
    def is_keeping_answer(self) -> bool:
        """A slice is held back for the last call now."""
        return self._keeps_answer and self._has_findings

    def count_reply(self, usage: Usage, *, seconds: float = 0.0) -> None:
        """Book one model call, which took that long."""
        self.forget_call()
        self.llm_calls += 1
        self.usage = self.usage + usage
        if usage.total_tokens > self._largest.total_tokens:
            self._largest = usage
        self._slowest_s = max(self._slowest_s, seconds)

    def forget_call(self) -> None:
        """A call that was let begin gave no reply; its place is free again."""
        self._begun = max(self._begun - 1, 0)
        self._call_ended.set()

    def begin_tool_call(self) -> None:
        """Count a call that is about to reach a tool.

        Raises:
            BudgetSpent: There have been `max_tool_calls`.
        """
        limit = self.limits.max_tool_calls
        if limit is not None and self.tool_calls >= limit:
            raise BudgetSpent(Spent("max_tool_calls", f"max_tool_calls={limit} was reached"))
        self.tool_calls += 1

    def note_finding(self) -> None:
        """A tool answered: from now on there is something to answer from."""
        self._has_findings = True

    def open_answer(self) -> None:
        """Free the slice for the last call; the search has ended.

        Raises:
            BudgetSpent: That call would break the limit of tokens or money.
        """
        self._keeps_answer = False
        refusal = self._token_refusal(calls=1) or self._cost_refusal(calls=1)
        if refusal is not None:
            raise BudgetSpent(refusal)

    async def begin_call(self, *, calls: bool = True, step: bool = False) -> None:
        """Let one more model call begin as `check` does, which see; first wait where it must.

        Where tokens or money are limited, the run's first call goes alone: before its reply nobody
        knows for how many calls at the same time there is room.
        """
        is_paid = self.limits.max_tokens is not None or self.limits.max_cost_usd is not None
        while is_paid and self._begun and not self.llm_calls:
            self._call_ended.clear()
            async with self.wait():
                await self._call_ended.wait()
        self.check(calls=calls, step=step)

    def check(self, *, calls: bool = True, step: bool = False) -> None:
        """Let one more model call begin; it holds its place until `count_reply` or `forget_call`.

        A prompt that the model refuses is a call too, which whoever handles the refusal counts.

        Args:
            calls: The number of model calls counts too.
            step: It is an expansion, which `max_steps` counts.

        Raises:
            BudgetSpent: A budget allows none.
        """
        refusal = self.refusal(calls=calls, step=step)
        if refusal is not None:
            raise BudgetSpent(refusal)
        self._begun += 1
        self.steps += step

    def refusal(self, *, calls: bool = True, step: bool = False) -> Spent | None:
        """Why no further model call may begin; `None` when one may. Arguments as for `check`."""
        limits = self.limits
        keeps_call = self.is_keeping_answer and _ANSWER_SHARE * limits.max_llm_calls >= 1
        held = self._begun + keeps_call
        if calls and self.llm_calls + held >= limits.max_llm_calls:
            return self.call_limit()
        if step and limits.max_steps is not None and self.steps >= limits.max_steps:
            return Spent("max_steps", f"max_steps={limits.max_steps} was reached")
        refusal = self._token_refusal(calls=self._begun) or self._cost_refusal(calls=self._begun)
        if refusal is None and self._left_s() <= 0:
            refusal = self._deadline_reason()
        return refusal

    def _token_refusal(self, *, calls: int) -> Spent | None:
        """Why `calls` calls may not be paid beside the next one, which may pass the limit."""
        limit, used = self.limits.max_tokens, self.usage.total_tokens
        if limit is None or self._is_within(used, calls, self._largest.total_tokens, limit):
            return None
        what = "was reached" if used >= limit else "has no room for another call"
        return Spent("max_tokens", f"max_tokens={limit} {what}: {used} tokens")

    def _cost_refusal(self, *, calls: int) -> Spent | None:
        limit, used = self.limits.max_cost_usd, self.cost_usd
        if limit is None or used is None or self._prices is None:
            return None
        if self._is_within(used, calls, self._prices.of(self._largest), limit):
            return None
        what = "was reached" if used >= limit else "has no room for another call"
        return Spent("max_cost_usd", f"max_cost_usd={limit:g} {what}: {used:.4g} US dollars")

    def _is_within(self, used: float, calls: int, one_call: float, limit: float) -> bool:
        """Whether a limit allows the next call, of whose cost nothing is known, beside `calls`.

        While a slice is kept, both the next call and the last one must fit.
        """
        if self.is_keeping_answer and one_call <= _ANSWER_SHARE * limit:
            calls += 2
        return used < limit and used + calls * one_call <= limit

    def call_limit(self) -> Spent:
        """Of a run that used up its model calls."""
        reason = f"max_llm_calls={self.limits.max_llm_calls} was reached"
        return Spent("max_llm_calls", reason)

    def left(self) -> str:
        """What may still be spent, for the model to read; the call that shows it is counted in."""
        limits, running = self.limits, max(self._begun - 1, 0)
        calls = max(limits.max_llm_calls - self.llm_calls - running, 0)
        parts = [f"{calls} of {limits.max_llm_calls} model calls"]
        if limits.max_tool_calls is not None:
            tools = limits.max_tool_calls - self.tool_calls
            parts.append(f"{tools} of {limits.max_tool_calls} tool calls")
        if limits.max_steps is not None:
            parts.append(f"{max(limits.max_steps - self.steps + 1, 0)} steps")
        if limits.max_tokens is not None:
            parts.append(f"{max(limits.max_tokens - self.usage.total_tokens, 0)} tokens")
        if limits.max_cost_usd is not None:
            parts.append(f"{max(limits.max_cost_usd - (self.cost_usd or 0.0), 0.0):.4f} US dollars")
        return f"Left: {', '.join(parts)}, {max(self._left_s(), 0.0):.0f} s."

    def wait(self) -> "_Waiting":
        """Wait for a service inside the block, under the run's deadline, which is passed on.

        Raises:
            BudgetSpent: The run's deadline, or its caller's, came first.
            DeadlineExceeded: The service gave up on its own account before that.
        """
        return _Waiting(self)

    def seconds_to_wait(self) -> float:
        """How long a service may take that is asked now, > 0.

        Raises:
            BudgetSpent: The run's deadline, or its caller's, has passed.
        """
        left_s = self._left_s()
        if left_s <= 0:
            raise BudgetSpent(self._deadline_reason())
        return left_s

    def require_time(self, failure: Exception) -> None:
        """Turn the failure of a wait into the end of the run where its deadline was the cause.

        Raises:
            BudgetSpent: It was.
        """
        if self._left_s() <= _ALMOST_S:
            raise BudgetSpent(self._deadline_reason()) from failure

    def _left_s(self) -> float:
        """Until the deadline; until the time kept for the last call, while it is kept."""
        own = self._deadline_s - self.seconds
        try:
            left = min(own, remaining_s(at_most_s=max(own, 0.0)))
        except DeadlineExceeded:
            return 0.0
        return left - self._kept_s()

    def _kept_s(self) -> float:
        if not self.is_keeping_answer:
            return 0.0
        share = _ANSWER_SHARE * self._deadline_s
        return min(share, _ANSWER_REPLIES * self._slowest_s, _ANSWER_MAX_S)

    def _deadline_reason(self) -> Spent:
        if self.seconds + self._kept_s() + _ALMOST_S < self._deadline_s:
            reason = f"the caller's deadline was reached after {self.seconds:.1f} s"
        else:
            reason = f"deadline_s={self._deadline_s:g} was reached"
        return Spent("deadline_s", reason)


class _Waiting:
    """See `Budget.wait`. A run waits twice for every step; as a generator it costs the double."""

    __slots__ = ("_budget", "_deadline", "_timeout")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    async def __aenter__(self) -> None:
        left_s = self._budget.seconds_to_wait()
        self._timeout = asyncio.timeout(left_s)
        await self._timeout.__aenter__()
        self._deadline = deadline_in(left_s)
        self._deadline.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadline.__exit__(None, None, None)
        try:
            await self._timeout.__aexit__(kind, failure, trace)
        except TimeoutError as exc:
            self._budget.require_time(exc)
            raise
        if isinstance(failure, TimeoutError | DeadlineExceeded):
            self._budget.require_time(failure)
