"""How a run ended: the terminal event."""

from typing import Literal

from services.contracts.errors import ServiceError
from services.contracts.planner import RunEnded
from services.planner.budget import Budget, Spent
from services.planner.record import chosen_leaf
from services.planner.search.base import Found


def failed(error: ServiceError, budget: Budget) -> RunEnded:
    """A service failed; that never counts as the model's failure."""
    return _ended("failed", budget, reason=error.detail).model_copy(
        update={"problem": error.to_problem()}
    )


def ended(found: Found, budget: Budget) -> RunEnded:
    """Every service did its work; what was found decides."""
    leaf = chosen_leaf(found)
    if found.answers and leaf is not None:
        return _ended("answered", budget).model_copy(
            update={
                "answer": found.answer,
                "final_arguments": leaf.description,
                "solution_path": leaf.history.shown(),
            }
        )
    if found.stopped is not None:
        return _exhausted(found.stopped, budget)
    if leaf is not None:
        return _ended("gave_up", budget, reason="the model gave up and nothing else was left")
    limit = budget.limits.max_depth
    reason = f"every path ended without an answer; max_depth={limit}"
    return _exhausted(Spent("max_depth", reason), budget)


def _exhausted(spent: Spent, budget: Budget) -> RunEnded:
    return _ended("exhausted", budget, reason=spent.reason).model_copy(
        update={"limit": spent.limit}
    )


def _ended(
    kind: Literal["answered", "gave_up", "exhausted", "failed"],
    budget: Budget,
    *,
    reason: str | None = None,
) -> RunEnded:
    return RunEnded(
        kind=kind,
        reason=reason,
        llm_calls=budget.llm_calls,
        tool_calls=budget.tool_calls,
        usage=budget.usage,
        seconds=budget.seconds,
    )
