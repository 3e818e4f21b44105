"""Whether a run may make a call that changes something."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from services.contracts.apis import ApiRef, SideEffect
from services.contracts.ids import RunId
from services.contracts.planner import ApprovalAsked
from services.planner.approvals import Approvals
from services.planner.budget import Budget

_ADVICE = "go on without it"
NOT_ALLOWED = f"this call changes something, which this run is not allowed to do; {_ADVICE}"
REFUSED = f"this call changes something, and it was not approved; {_ADVICE}"


class Question(NamedTuple):
    """A call that needs a decision."""

    api: ApiRef
    effect: SideEffect
    arguments: str
    """The model's text."""


class Ask(Protocol):
    """Asks somebody whether a call may be made."""

    async def __call__(self, question: Question, *, call_id: int) -> bool | None:
        """The decision; `None` when nobody decided in time.

        Args:
            question: The call.
            call_id: The `ToolStarted` it belongs to.

        Raises:
            BudgetSpent: The run's deadline came first.
        """
        ...


class Permission:
    """What one run may change."""

    def __init__(self, *, allow_writes: bool = False, ask: Ask | None = None) -> None:
        """Fix the rule.

        Args:
            allow_writes: Changing calls may be made.
            ask: Decides about each of them, and wins over `allow_writes`; `None` asks nobody.
        """
        self._allow_writes = allow_writes
        self._ask = ask
        self._refused: set[tuple[ApiRef, str]] = set()

    async def refusal(self, question: Question, *, call_id: int | None) -> str | None:
        """Why a changing call may not be made, for the model; `None` when it may.

        A call that was refused once is not asked about again in this run.

        Args:
            question: The call.
            call_id: The `ToolStarted` it belongs to; without one nobody can be asked.
        """
        if self._ask is None:
            return None if self._allow_writes else NOT_ALLOWED
        key = (question.api, question.arguments)
        if key in self._refused or call_id is None:
            return REFUSED
        decision = await self._ask(question, call_id=call_id)
        if decision is None:
            return f"this call changes something, and nobody approved it in time; {_ADVICE}"
        if not decision:
            self._refused.add(key)
            return REFUSED
        return None


class Asking:
    """See `Ask`: tells the run's caller, who decides through `Approvals`."""

    def __init__(
        self,
        *,
        run_id: RunId,
        approvals: Approvals,
        emit: Callable[[ApprovalAsked], Awaitable[None]],
        budget: Budget,
        timeout_s: float,
    ) -> None:
        """Bind the run.

        Args:
            run_id: Under which decisions are given.
            approvals: Where they arrive.
            emit: Tells the run's caller.
            budget: The run's deadline holds while it waits.
            timeout_s: Longest wait for one decision, seconds.
        """
        self._run_id = run_id
        self._approvals = approvals
        self._emit = emit
        self._budget = budget
        self._timeout_s = timeout_s

    async def __call__(self, question: Question, *, call_id: int) -> bool | None:
        """See `Ask.__call__`."""
        left_s = max(self._budget.limits.deadline_s - self._budget.seconds, 0.0)
        # Registered before it is told: whoever hears of it may decide at once.
        with self._approvals.register(self._run_id, call_id) as decision:
            await self._emit(
                ApprovalAsked(
                    call_id=call_id,
                    api=question.api,
                    effect=question.effect,
                    arguments=question.arguments,
                    expires_in_s=min(self._timeout_s, left_s),
                )
            )
            async with self._budget.wait():
                done, _ = await asyncio.wait([decision], timeout=self._timeout_s)
        return decision.result() if done else None
