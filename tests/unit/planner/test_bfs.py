"""BFS with a beam against a tree computed by hand from ToT's algorithm 1."""

import pytest

from services.contracts.llm import ChatRequest
from tests.fakes.judged_tree import (
    JudgedTree,
    labels_in,
    outline,
    purposes,
    scores,
    solve,
    step,
    tree_of,
)
from tests.fakes.planner_ports import answer, end_of, give_up

pytestmark = pytest.mark.anyio

# Algorithm 1 with k = b = 2, by hand:
#
#   t  states S(t-1)  new states S'(t) = all children    values            S(t), the best two
#   1  root           A, B                               (no more than b)  A, B
#   2  A, B           A1, A2, B1, B2                     4, 9, 7, 7        A2, B1 (tie: older one)
#   3  A2, B1         A2a gives up, A2b, B1a "x", B1b "y"                  answers: end
#
# Vote between the answers: [x, y] -> 2, [y, x] -> 1, both times y.
# Calls: 2 + 4 expansions, 4 values, 4 expansions, 2 votes = 16.
TREE = {
    (): [step("A"), step("B")],
    ("A",): [step("A1"), step("A2")],
    ("B",): [step("B1"), step("B2")],
    ("A", "A2"): [give_up("A2a"), step("A2b")],
    ("B", "B1"): [answer("x", "B1a"), answer("y", "B1b")],
}
VALUES = scores({"A1": 4, "A2": 9, "B1": 7, "B2": 7})


def judge(request: ChatRequest) -> str:
    labels = labels_in(request)
    if "B1b" not in labels:
        return VALUES(request)
    return "Choice: 1" if labels.index("B1b") < labels.index("B1a") else "Choice: 2"


async def test_the_tree_is_the_one_computed_by_hand() -> None:
    events = await solve(JudgedTree(TREE, judge), "BFS_w2")
    end = end_of(events)
    assert outline(tree_of(end)) == {
        "A": (
            1,
            False,
            {
                "A1": (0, True, {}),
                "A2": (3, False, {"A2a": (5, True, {}), "A2b": (0, False, {})}),
            },
        ),
        "B": (
            2,
            False,
            {
                "B1": (4, False, {"B1a": (6, False, {}), "B1b": (7, False, {})}),
                "B2": (0, True, {}),
            },
        ),
    }
    assert purposes(events) == ["value"] * 4 + ["vote"] * 2
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "y", 16)


async def test_the_file_has_the_answer_that_won_the_vote() -> None:
    end = end_of(await solve(JudgedTree(TREE, judge), "BFS_w2"))
    assert '"y"' in end.record["answer_generation"]["final_answer"]
    assert end.final_arguments == end.record["answer_generation"]["final_answer"]
    assert len(end.record["compare_candidates"]) == 2


async def test_siblings_are_asked_to_differ() -> None:
    model = JudgedTree(TREE, judge)
    await solve(model, "BFS_w2")
    assert [m.role for m in model.steps[1].messages] == ["system", "user", "user"]
    assert [request.temperature for request in model.steps[:2]] == [0.0, 0.0]


async def test_siblings_made_at_once_are_drawn_with_seeds_of_their_own() -> None:
    model = JudgedTree(TREE, judge)
    end = end_of(await solve(model, "BFS_w2", mode="parallel"))
    assert [(r.seed, r.temperature) for r in model.steps[:2]] == [(0, 0.7), (1, 0.7)]
    assert (end.kind, end.answer) == ("answered", "y")


async def test_a_beam_of_one_is_a_chain() -> None:
    tree = {(): [step("A")], ("A",): [answer("x", "done")]}
    events = await solve(JudgedTree(tree), "BFS_w1")
    assert (end_of(events).llm_calls, purposes(events)) == (2, [])


async def test_the_search_ends_when_a_whole_level_ended_in_vain() -> None:
    tree = {(): [step("A"), give_up("B")], ("A",): [give_up("C"), give_up("D")]}
    end = end_of(await solve(JudgedTree(tree), "BFS_w2"))
    assert (end.kind, end.llm_calls) == ("gave_up", 4)
