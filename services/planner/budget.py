"""What a run may still spend: model calls, tokens, seconds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from services.contracts.context import deadline_in, remaining_s
from services.contracts.errors import DeadlineExceeded
from services.contracts.llm import Usage
from services.contracts.planner import LimitName, Limits

_ALMOST_S = 0.05  # a service that stops at our own deadline answers a little before it


class Spent(NamedTuple):
    """The budget that ended a run."""

    limit: LimitName
    reason: str
    """For people: the limit with its value, and what reached it."""


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
    ) -> None:
        """Start the clock.

        Args:
            limits: The run's limits.
            max_deadline_s: The service's own cap on a run's wall clock, seconds.
            clock: Monotonic time, seconds.
        """
        self.limits = limits
        self.llm_calls = 0
        self.tool_calls = 0
        self.usage = Usage()
        self._clock = clock
        self._started = clock()
        self._deadline_s = min(limits.deadline_s, max_deadline_s)

    @property
    def seconds(self) -> float:
        """Wall clock since the run began."""
        return self._clock() - self._started

    @property
    def calls_are_spent(self) -> bool:
        """The number of model calls has reached its limit."""
        return self.llm_calls >= self.limits.max_llm_calls

    def count_reply(self, usage: Usage) -> None:
        """Book one model call."""
        self.llm_calls += 1
        self.usage = self.usage + usage

    def check(self) -> None:
        """Let one more model call begin.

        Raises:
            BudgetSpent: A budget allows none.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise BudgetSpent(refusal)

    def refusal(self) -> Spent | None:
        """Why no further model call may be made; `None` when one may."""
        if self.calls_are_spent:
            return self.call_limit()
        limits = self.limits
        if limits.max_tokens is not None and self.usage.total_tokens >= limits.max_tokens:
            reason = f"max_tokens={limits.max_tokens} was reached: {self.usage.total_tokens} tokens"
            return Spent("max_tokens", reason)
        if self._left_s() <= 0:
            return self._deadline_reason()
        return None

    def call_limit(self) -> Spent:
        """Of a run that used up its model calls."""
        reason = f"max_llm_calls={self.limits.max_llm_calls} was reached"
        return Spent("max_llm_calls", reason)

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Wait for a service inside the block, under the run's deadline, which is passed on.

        Raises:
            BudgetSpent: The run's deadline, or its caller's, came first.
            DeadlineExceeded: The service gave up on its own account before that.
        """
        left_s = self._left_s()
        if left_s <= 0:
            raise BudgetSpent(self._deadline_reason())
        try:
            with deadline_in(left_s):
                async with asyncio.timeout(left_s):
                    yield
        except (TimeoutError, DeadlineExceeded) as exc:
            if self._left_s() > _ALMOST_S:
                raise
            raise BudgetSpent(self._deadline_reason()) from exc

    def _left_s(self) -> float:
        own = self._deadline_s - self.seconds
        try:
            return min(own, remaining_s(at_most_s=max(own, 0.0)))
        except DeadlineExceeded:
            return 0.0

    def _deadline_reason(self) -> Spent:
        if self.seconds + _ALMOST_S < self._deadline_s:
            reason = f"the caller's deadline was reached after {self.seconds:.1f} s"
        else:
            reason = f"deadline_s={self._deadline_s:g} was reached"
        return Spent("deadline_s", reason)
