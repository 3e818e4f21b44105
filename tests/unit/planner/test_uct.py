"""Monte-Carlo tree search against trees computed by hand from LATS's equations."""

import math

import pytest

from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import Limits
from services.planner.search.uct import State, backpropagate, select
from services.planner.tree import Node, NodeFactory
from tests.fakes.judged_tree import (
    JudgedTree,
    labels_in,
    outline,
    path_of,
    purposes,
    question_of,
    scores,
    solve,
    step,
    tree_of,
)
from tests.fakes.planner_ports import answer, end_of, give_up

pytestmark = pytest.mark.anyio

# LATS with n = 2, lambda = 1/2, w = 1; samples that differ have SC = 1/2.
#
#   1. root: A LM 0.8 -> V 0.65; B LM 0.6 -> V 0.55. Best: A.
#      A: A1 LM 0.3 -> V 0.40; A2 answers "weak", r = LM = 0.5. Best: A2, the end; 0.5 < 0.7.
#      r = 0.5: V(A) = (0.65 + 0.5) / 2 = 0.575, N(A) = 2, N(root) = 2. Reflection.
#   2. UCT(A) = 0.575 + sqrt(ln 2 / 2) = 1.164 < UCT(B) = 0.55 + sqrt(ln 2) = 1.383.
#      B: B1 and B2 give up, r = 0: nothing is left below B. Reflection.
#   3. A1 is all that is left: answer "good" with LM 0.9 >= 0.7, and A1b with LM 0.2. End.
#
# Calls: (2 + 2) + (2 + 2) + 1, 2 + 1, 2 + 2 = 16.
TREE = {
    (): [step("A"), step("B")],
    ("A",): [step("A1"), answer("weak", "A2")],
    ("B",): [give_up("B1"), give_up("B2")],
    ("A", "A1"): [answer("good", "A1a"), step("A1b")],
}
POINTS = scores({"A": 8, "B": 6, "A1": 3, "A2": 5, "A1a": 9, "A1b": 2})


def judge(request: ChatRequest) -> str:
    return POINTS(request) if "Score:" in request.messages[-1].content else "Try the other way."


async def test_the_tree_is_the_one_computed_by_hand() -> None:
    model = JudgedTree(TREE, judge)
    events = await solve(model, "LATS_w2")
    end = end_of(events)
    order = [(), ("A",), ("B",), ("A", "A1")]
    assert [path_of(request)[:2] for request in model.steps[::2]] == order
    assert purposes(events) == [*["value"] * 4, "reflect", "reflect", *["value"] * 2]
    assert outline(tree_of(end)) == {
        "A": (
            1,
            False,
            {
                "A1": (6, False, {"A1a": (7, False, {}), "A1b": (0, False, {})}),
                "A2": (2, False, {}),
            },
        ),
        "B": (3, False, {"B1": (4, True, {}), "B2": (5, True, {})}),
    }
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "good", 16)


async def test_lessons_of_failed_rollouts_are_shown_to_later_expansions_only() -> None:
    model = JudgedTree(TREE, judge)
    await solve(model, "LATS_w2")
    shown = [request.messages[-1].content.count("Try the other way.") for request in model.steps]
    assert shown == [0, 0, 0, 0, 1, 1, 2, 2]


async def test_only_the_latest_lessons_are_shown() -> None:
    # Every rollout ends at a poor answer, and leaves one step open.
    def reply(request: ChatRequest) -> Message:
        label = f"{len(path_of(request))}"
        return answer("poor", f"P{label}") if request.seed == 0 else step(f"S{label}")

    def judge(request: ChatRequest) -> str:
        if "Score:" in question_of(request):
            return "Score: 6" if labels_in(request)[-1].startswith("P") else "Score: 1"
        return f"lesson {len(labels_in(request))}"

    model = JudgedTree(reply, judge)
    await solve(model, "LATS_w2", limits=Limits(max_depth=15))
    shown = model.steps[-1].messages[-1].content.splitlines()[1:]
    assert shown == ["- lesson 2", "- lesson 3", "- lesson 4"]


async def test_an_accepted_answer_ends_the_search_beside_a_step_of_more_promise() -> None:
    # "x": r = 0.7 is accepted; B: V = (1.0 + 0.5) / 2 = 0.75.
    tree = {(): [answer("x", "A"), step("B")]}
    end = end_of(await solve(JudgedTree(tree, scores({"A": 7, "B": 10})), "LATS_w2"))
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "x", 4)


async def test_an_answer_below_the_threshold_stands_when_nothing_better_is_found() -> None:
    tree = {(): [answer("poor", "A"), answer("fair", "B")]}
    end = end_of(await solve(JudgedTree(tree, scores({"A": 2, "B": 6})), "LATS_w2"))
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "fair", 4)


async def test_equal_samples_raise_the_value_of_their_action() -> None:
    # N = 3: A twice, SC = 2/3, LM 0.5 -> V 0.583; B once, SC = 1/3, LM 0.6 -> V 0.467.
    tree = {
        (): [step("B"), step("A"), step("A")],
        ("A",): [answer("x", "done"), give_up("no"), give_up("no")],
    }
    model = JudgedTree(tree, scores({"A": 5, "B": 6, "done": 8}))
    await solve(model, "LATS_w3")
    assert path_of(model.steps[3]) == ("A",)


async def test_a_score_that_cannot_be_read_is_neither_good_nor_bad() -> None:
    # A unreadable 0.5 -> V 0.5; B 0.4 -> V 0.45.
    tree = {(): [step("A"), step("B")], ("A",): [answer("x", "done"), give_up("no")]}
    points = {"A": "hard to say", "B": "Score: 4", "done": "9/10"}
    model = JudgedTree(tree, lambda request: points[labels_in(request)[-1]])
    await solve(model, "LATS_w2")
    assert path_of(model.steps[2]) == ("A",)


# UCT_vote, three children a node. Votes with each child first in turn:
#
#   root: [A B C] -> 2 = B, [B C A] -> 1 = B, [C A B] -> 2 = A: V(A) = 1/3, V(B) = 2/3, V(C) = 0.
#   1. B: B1, B2 and B3 give up, r = 0. N(root) = 2; nothing is left below B.
#   2. UCT(A) = 1/3 + sqrt(ln 2) > UCT(C) = sqrt(ln 2). A: A1 answers: the end.
#
# Calls: 3 + 3 votes, 3, 3 = 12; a single answer needs no vote.
VOTED = {
    (): [step("A"), step("B"), step("C")],
    ("B",): [give_up("B1"), give_up("B2"), give_up("B3")],
    ("A",): [answer("x", "A1"), step("A2"), step("A3")],
}
CHOICES = {"ABC": "Choice: 2", "BCA": "I choose attempt 1", "CAB": "2"}


async def test_votes_among_siblings_guide_the_tree_policy() -> None:
    model = JudgedTree(VOTED, lambda request: CHOICES["".join(labels_in(request))])
    events = await solve(model, "UCT_vote")
    end = end_of(events)
    assert [path_of(request) for request in model.steps[::3]] == [(), ("B",), ("A",)]
    assert purposes(events) == ["vote"] * 3
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "x", 12)


async def test_several_answers_at_one_node_are_compared_by_vote() -> None:
    tree = {(): [answer("x", "A"), step("B"), answer("y", "C")]}
    model = JudgedTree(tree, lambda r: f"Choice: {labels_in(r).index('C') + 1}")
    end = end_of(await solve(model, "UCT_vote"))
    assert (end.answer, end.llm_calls) == ("y", 5)


@pytest.mark.parametrize(("method", "calls"), [("LATS_w1", 1 + 1 + 1), ("UCT_vote", 3 + 3 + 9)])
async def test_the_search_ends_when_every_branch_reached_the_depth_limit(
    method: str, calls: int
) -> None:
    # Two steps deep; what reached the limit needs no verdict, and the last failure no reflection.
    model = JudgedTree(lambda _: step("x"), lambda _: "Score: 5 Choice: 1")
    end = end_of(await solve(model, method, limits=Limits(max_depth=6)))
    assert (end.kind, end.limit, end.llm_calls) == ("exhausted", "max_depth", calls)


def leaf() -> Node:
    return NodeFactory().root(None)


def test_rewards_are_averaged_over_the_path() -> None:
    root = State(leaf())
    root.children = [State(leaf(), root, 0.6)]
    (child,) = root.children
    child.children = [State(leaf(), child, 0.9)]
    backpropagate(child.children[0])
    assert (child.visits, child.value) == (2, pytest.approx((0.6 + 0.9) / 2))
    backpropagate(child.children[0])
    assert (child.visits, child.value) == (3, pytest.approx((0.6 + 0.9 + 0.9) / 3))
    assert root.visits == 3


def test_selection_weighs_value_against_visits_and_passes_by_what_is_closed() -> None:
    root = State(leaf(), visits=10)
    tried = State(leaf(), root, 0.9, visits=9)
    fresh = State(leaf(), root, 0.1, visits=1)
    closed = State(leaf(), root, 1.0, is_closed=True)
    root.children = [tried, fresh, closed]
    assert tried.uct() == pytest.approx(0.9 + math.sqrt(math.log(10) / 9))
    assert fresh.uct() == pytest.approx(0.1 + math.sqrt(math.log(10)))
    assert select(root) is fresh
