"""The terminal event of every kind of end."""

from services.contracts.errors import Unavailable
from services.contracts.ids import RunId
from services.contracts.llm import Message, Usage
from services.contracts.planner import Limits
from services.planner.budget import Budget, Prices, Spent
from services.planner.ending import cancelled, ended, failed
from services.planner.search.base import Found
from services.planner.tree import Node, NodeFactory, NodeType, extend

NODES = NodeFactory()
CALLS = Spent("max_llm_calls", "max_llm_calls=9 was reached")


def budget() -> Budget:
    return Budget(Limits(max_depth=6))


def tree(*, loops: list[bool]) -> Node:
    """A root with one pruned leaf for each item."""
    root = NODES.root(extend(None, Message(role="user", content="x")))
    for is_loop in loops:
        leaf = NODES.child(root, NodeType.ACTION_INPUT, "{}")
        leaf.is_pruned, leaf.is_loop = True, is_loop
    return root


def test_a_candidate_that_a_method_holds_is_its_best_effort() -> None:
    end = ended(Found(best_answer="so far", stopped=CALLS), budget())
    assert (end.kind, end.limit, end.answer, end.is_best_effort) == (
        "exhausted",
        "max_llm_calls",
        "so far",
        True,
    )


def test_an_answer_counts_although_a_budget_stopped_the_search_for_a_better_one() -> None:
    leaf = tree(loops=[])
    end = ended(Found(answers=[leaf], answer="done", stopped=CALLS), budget())
    assert (end.kind, end.answer, end.is_best_effort, end.limit) == (
        "answered",
        "done",
        False,
        None,
    )


def test_a_search_is_exhausted_by_a_loop_only_where_every_path_ends_in_one() -> None:
    assert ended(Found(roots=[tree(loops=[True, True])]), budget()).limit == "loop"
    mixed = ended(Found(roots=[tree(loops=[True, False])]), budget())
    assert (mixed.limit, mixed.reason) == (
        "max_depth",
        "every path ended without an answer; max_depth=6",
    )


def test_what_was_spent_is_told_whatever_the_end() -> None:
    spent = Budget(Limits(), prices=Prices(1.0, 0.0))
    spent.count_reply(Usage(prompt_tokens=2_000_000))
    spent.reused_observations, spent.extra_llm_calls, spent.extra_tool_calls = 3, 4, 5
    ends = [
        ended(Found(stopped=CALLS), spent, run_id=RunId("r")),
        failed(Unavailable("gone"), spent, run_id=RunId("r")),
        cancelled(spent, run_id=RunId("r")),
    ]
    assert [end.kind for end in ends] == ["exhausted", "failed", "cancelled"]
    told = {
        (e.run_id, e.cost_usd, e.reused_observations, e.extra_llm_calls, e.extra_tool_calls)
        for e in ends
    }
    assert told == {("r", 2.0, 3, 4, 5)}
