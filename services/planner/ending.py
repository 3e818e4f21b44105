"""How a run ended: the terminal event."""

from collections.abc import Iterator, Sequence
from typing import Literal

from services.contracts.errors import ServiceError
from services.contracts.ids import RunId
from services.contracts.planner import RunEnded
from services.planner.budget import Budget, Spent
from services.planner.loops import LOOP_LENGTH
from services.planner.record import chosen_leaf
from services.planner.search.base import Found
from services.planner.tree import Node


def failed(error: ServiceError, budget: Budget, *, run_id: RunId | None = None) -> RunEnded:
    """A service failed; that never counts as the model's failure."""
    return _ended("failed", budget, reason=error.detail).model_copy(
        update={"problem": error.to_problem(), "run_id": run_id}
    )


def cancelled(budget: Budget, *, run_id: RunId | None = None) -> RunEnded:
    """Somebody cancelled the run; a caller that left hears nothing."""
    return _ended("cancelled", budget, reason="the run was cancelled").model_copy(
        update={"run_id": run_id}
    )


def ended(found: Found, budget: Budget, *, run_id: RunId | None = None) -> RunEnded:
    """Every service did its work; what was found decides.

    An answer that the model finished with counts as one, also when a budget kept the search from
    looking for a better one; a best effort never does.
    """
    return _by_findings(found, budget).model_copy(
        update={"run_id": run_id, "proposal": found.proposal}
    )


def _by_findings(found: Found, budget: Budget) -> RunEnded:
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
        return _exhausted(found.stopped, found, budget)
    if leaf is not None:
        return _ended("gave_up", budget, reason="the model gave up and nothing else was left")
    return _exhausted(_dead_ends(found, budget), found, budget)


def _dead_ends(found: Found, budget: Budget) -> Spent:
    """Why a search had nowhere left to go."""
    if found.roots and all(leaf.is_loop for leaf in _leaves(found.roots)):
        reason = f"every path made the same call {LOOP_LENGTH} times with the same observation"
        return Spent("loop", reason)
    limit = budget.limits.max_depth
    return Spent("max_depth", f"every path ended without an answer; max_depth={limit}")


def _leaves(roots: Sequence[Node]) -> Iterator[Node]:
    pending = list(roots)
    while pending:
        node = pending.pop()
        pending.extend(node.children)
        if not node.children:
            yield node


def _exhausted(spent: Spent, found: Found, budget: Budget) -> RunEnded:
    return _ended("exhausted", budget, reason=spent.reason).model_copy(
        update={
            "limit": spent.limit,
            "answer": found.best_answer,
            "is_best_effort": found.best_answer is not None,
        }
    )


def _ended(
    kind: Literal["answered", "gave_up", "exhausted", "cancelled", "failed"],
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
        cost_usd=budget.cost_usd,
        seconds=budget.seconds,
        readings=dict(budget.readings),
        reused_observations=budget.reused_observations,
        extra_llm_calls=budget.extra_llm_calls,
        extra_tool_calls=budget.extra_tool_calls,
        extra_usage=budget.extra_usage,
    )
