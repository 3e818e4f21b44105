"""Traces, and what verdicts do."""

import pytest

from services.contracts.compat import TOOLBENCH, Compat
from services.contracts.errors import InvalidArgument
from services.contracts.llm import ChatRequest
from services.contracts.planner import Deliberated
from services.planner.search.ranking import trace
from services.planner.tree import Node, NodeFactory, NodeType
from tests.fakes.judged_tree import (
    SEARCH_ONLY,
    JudgedTree,
    labels_in,
    outline,
    solve,
    step,
    tree_of,
)
from tests.fakes.planner_ports import answer, end_of, give_up

pytestmark = pytest.mark.anyio


def trajectory(observation: str) -> Node:
    nodes = NodeFactory()
    thought = nodes.child(nodes.root(None), NodeType.THOUGHT, "ask")
    action = nodes.child(thought, NodeType.ACTION, "f")
    leaf = nodes.child(action, NodeType.ACTION_INPUT, "{}")
    leaf.observation = observation
    return leaf


def test_a_trace_numbers_every_piece_and_cuts_long_observations() -> None:
    assert trace(trajectory("x" * 1025)) == (
        "step_1: Thought: ask\n\n"
        "step_2: Action: f\n\n"
        "step_3: Action Input: {}\n\n"
        f"step_4: Observation: {'x' * 1024}...(len=1025)\n\n"
    )


def test_a_trace_begins_after_the_node_above_it() -> None:
    leaf = trajectory("seen")
    assert trace(leaf, above=leaf.path()[1]) == (
        "step_1: Action Input: {}\n\nstep_2: Observation: seen\n\n"
    )


def test_a_trace_of_nothing_is_a_word() -> None:
    assert trace(NodeFactory().root(None)) == "None"


# Of A and B, the one with more votes is entered first; both give up, and the root goes on.
TIED = {
    (): [step("A"), step("B")],
    ("A",): [give_up("A1"), give_up("A2")],
    ("B",): [answer("x", "B1")],
}


@pytest.mark.parametrize(
    ("compat", "first_text", "second_text", "first_entered"),
    [
        (SEARCH_ONLY, "A", "B", "A"),  # both votes for A
        (SEARCH_ONLY, "B", "A", "B"),
        (SEARCH_ONLY, "A", "A", "A"),  # split: the older one stays first
        (SEARCH_ONLY, "?", "A", "B"),  # one vote is missing, the other decides
        (SEARCH_ONLY, "?", "?", "A"),
        (TOOLBENCH, "?", "A", "B"),  # anything but `a` is a vote for the second
        (TOOLBENCH, "A.", "banana", "B"),
    ],
)
async def test_siblings_are_entered_in_the_order_of_their_votes(
    compat: Compat, first_text: str, second_text: str, first_entered: str
) -> None:
    def judge(request: ChatRequest) -> str:
        labels = labels_in(request)
        texts = {("A", "B"): first_text, ("B", "A"): second_text}
        return texts.get(tuple(labels), "A")

    end = end_of(
        await solve(
            JudgedTree(TIED | {("B",): [answer("x", "B1")] * 2}, judge), "DFS_w2", compat=compat
        )
    )
    assert [k for k, v in outline(tree_of(end)).items() if v[0] == 1] == [first_entered]


async def test_an_unreadable_verdict_is_told_with_its_event() -> None:
    events = await solve(JudgedTree(TIED, lambda _: "hm"), "DFS_w2")
    assert [e.is_readable for e in events if isinstance(e, Deliberated)][:2] == [False, False]


async def test_a_question_too_long_for_the_model_counts_as_unreadable_and_as_a_call() -> None:
    def judge(request: ChatRequest) -> str:
        raise InvalidArgument("the prompt has 9000 tokens, the limit is 8192")

    tree = {(): [step("A"), step("B")], ("A",): [answer("x", "A1")]}
    events = await solve(JudgedTree(tree, judge), "DFS_w2")
    told = [e for e in events if isinstance(e, Deliberated)]
    assert [(e.is_readable, e.text[:10]) for e in told] == [(False, "the prompt")] * 2
    assert (end_of(events).kind, end_of(events).llm_calls) == ("answered", 5)
