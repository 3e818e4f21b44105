"""Traces, and verdicts read from whatever a model writes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.compat import TOOLBENCH, Compat
from services.contracts.errors import InvalidArgument
from services.contracts.llm import ChatRequest
from services.contracts.planner import Deliberated
from services.planner.search.ranking import (
    read_choice,
    read_score,
    read_steps,
    read_vote,
    trace,
)
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


@pytest.mark.parametrize(
    ("text", "strict", "tolerant"),
    [
        ("A", "a", "a"),
        ("  so it is b \n", "b", "b"),
        ("**A**", None, "a"),
        ("The better one is B.", None, "b"),
        ("Attempt A is better than B, hence A!", None, "a"),
        ("banana", "a", None),
        ("", None, None),
        ("neither", None, None),
    ],
)
def test_a_vote_is_the_last_character_or_the_last_letter_that_stands_alone(
    text: str, strict: str | None, tolerant: str | None
) -> None:
    assert read_vote(text, strict=True) == strict
    assert read_vote(text, strict=False) == tolerant


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 7", 7),
        ("It made 3 calls. Score: 8 of 10", 8),
        ("**Score:** 9/10.", 9),
        ("I would say 6 out of 10", 6),
        ("score = 7.5", 7.5),
        ("4", 4),
        ("Score: 11", None),
        ("0", None),
        ("hopeless", None),
        ("99999999999999999999", None),
        ("", None),
    ],
)
def test_a_score_is_the_last_labelled_number_within_the_scale(
    text: str, score: float | None
) -> None:
    assert read_score(text) == score


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Choice: 2", 2),
        ("Attempt 1 made 3 calls, so I choose attempt 3", 3),
        ("2", 2),
        ("Choice: 4", None),
        ("Choice: 0", None),
        ("1.5", None),
        ("none", None),
    ],
)
def test_a_choice_is_the_last_labelled_number_of_a_candidate(text: str, choice: int | None) -> None:
    assert read_choice(text, count=3) == choice


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1. search\n2. Finish", 2),
        ("Sure:\n- search\n* Finish\n", 2),
        ("3) Finish", 1),
        ("Nothing is left.", None),
        ("", None),
        ("1. x\n" * 500, 200),
    ],
)
def test_an_imagined_plan_has_as_many_steps_as_listed_lines(text: str, steps: int | None) -> None:
    assert read_steps(text) == steps


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=400) | st.from_regex(r"(score|choice)[: ]*\d+.*", fullmatch=True))
def test_whatever_the_model_writes_a_verdict_is_in_its_range_or_missing(text: str) -> None:
    assert read_vote(text, strict=False) in {"a", "b", None}
    assert read_score(text) is None or 1 <= read_score(text) <= 10
    assert read_choice(text, count=3) in {1, 2, 3, None}
    assert read_steps(text) is None or read_steps(text) >= 1


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
