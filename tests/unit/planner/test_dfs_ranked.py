"""DFS with ranked siblings against the reference's vectors."""

import pytest

from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.llm import ChatRequest
from services.contracts.planner import ExpansionFinished, ExpansionStarted, Limits
from tests.fakes.judged_tree import (
    SEARCH_ONLY,
    JudgedTree,
    labels_in,
    outline,
    purposes,
    question_of,
    solve,
    step,
    tree_of,
)
from tests.fakes.planner_ports import HELLO_NAME, answer, end_of, give_up, reply

pytestmark = pytest.mark.anyio


def prefer(*labels: str):
    """A judge that prefers attempts with these last thoughts, the first most of all."""

    def judge(request: ChatRequest) -> str:
        first, second = question_of(request).split("Attempt A:\n")[1].split("Attempt B:\n")
        places = [
            next((k for k, label in enumerate(labels) if f"Thought: {label}\n" in text), 99)
            for text in (first, second)
        ]
        return "a" if places[0] < places[1] else "b"

    return judge


# The reference's vector (beam 2): two expansions, 2 comparisons, two expansions, 2 comparisons,
# the answer is entered: 8 calls.
VECTOR = {(): [step("A"), step("B")], ("B",): [step("B1"), answer("x", "B2")]}


async def test_the_references_vector_takes_eight_calls() -> None:
    events = await solve(JudgedTree(VECTOR, prefer("B", "B2")), "DFS_w2", compat=TOOLBENCH)
    end = end_of(events)
    assert purposes(events) == ["rank"] * 4
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "x", 8)
    assert outline(tree_of(end)) == {
        "A": (0, False, {}),
        "B": (1, False, {"B1": (0, False, {}), "B2": (2, False, {})}),
    }


async def test_an_executed_answer_wins_at_once_without_the_quirk() -> None:
    end = end_of(await solve(JudgedTree(VECTOR, prefer("B", "B1")), "DFS_w2", compat=SEARCH_ONLY))
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "x", 6)


# B gives up at once and A1 is ranked before the answer A2, and gives up: A ends with it.
LOST = {
    (): [step("A"), give_up("B")],
    ("A",): [give_up("A1"), answer("x", "A2")],
}


@pytest.mark.parametrize(
    ("compat", "kind", "answer_given", "calls"),
    [
        (TOOLBENCH, "gave_up", None, 8),
        (TOOLBENCH.model_copy(update={"ranking_may_lose_answers": False}), "answered", "x", 6),
        (SEARCH_ONLY, "answered", "x", 6),
    ],
)
async def test_only_the_quirk_loses_an_executed_answer(
    compat: Compat, kind: str, answer_given: str | None, calls: int
) -> None:
    end = end_of(await solve(JudgedTree(LOST, prefer("A", "A1")), "DFS_w2", compat=compat))
    assert (end.kind, end.answer, end.llm_calls) == (kind, answer_given, calls)


@pytest.mark.parametrize(("compat", "is_marked"), [(TOOLBENCH, True), (SEARCH_ONLY, False)])
async def test_only_the_quirk_marks_what_a_give_up_leaves_as_finished(
    compat: Compat, is_marked: bool
) -> None:
    tree = {(): [step("A"), give_up("B")], ("A",): [give_up("A1"), give_up("A2")]}
    end = end_of(await solve(JudgedTree(tree, prefer("A", "A1")), "DFS_w2", compat=compat))
    assert tree_of(end)["children"][0]["finished"] is is_marked


async def test_giving_up_at_once_ends_the_search_after_one_round() -> None:
    tree = {(): [give_up("A"), give_up("B")]}
    end = end_of(await solve(JudgedTree(tree, prefer("A")), "DFS_w2", compat=TOOLBENCH))
    assert (end.kind, end.llm_calls) == ("gave_up", 4)


async def test_a_give_up_at_the_root_leaves_it_the_other_children_without_the_quirk() -> None:
    tree = {(): [give_up("A"), step("B")], ("B",): [answer("x", "B1")]}
    end = end_of(await solve(JudgedTree(tree, prefer("A")), "DFS_w2", compat=SEARCH_ONLY))
    assert (end.kind, end.answer) == ("answered", "x")


async def test_a_give_up_ends_its_parent_and_the_grandparent_goes_on() -> None:
    tree = {
        (): [step("R"), step("S")],
        ("R",): [step("A"), step("B")],
        ("R", "A"): [give_up("A1"), step("A2")],
        ("R", "B"): [answer("x", "B1")],
    }
    end = end_of(await solve(JudgedTree(tree, prefer("R", "A", "A1")), "DFS_w2"))
    shown = outline(tree_of(end))
    assert shown["R"][2]["A"] == (2, False, {"A1": (3, True, {}), "A2": (0, False, {})})
    assert end.answer == "x"


@pytest.mark.parametrize(
    ("compat", "second_name"),
    [(TOOLBENCH, "made_up"), (NONE, "invalid_hallucination_function_name")],
)
async def test_only_the_first_call_is_renamed_in_toolbench_mode(
    compat: Compat, second_name: str
) -> None:
    tree = {(): [reply((HELLO_NAME, "{}"), ("made_up", "{}"), thought="A")]}
    model = JudgedTree(tree | {("A",): [answer("x", "A1")]})
    await solve(model, "DFS_w1", compat=compat)
    assert model.steps[1].messages[2].tool_calls[1].name == second_name


async def test_a_model_that_never_finishes_is_asked_30_steps_and_30_comparisons() -> None:
    # Depth 12 at three units a step: 2 + 4 + 8 + 16 steps, 2 comparisons at each of 15 nodes.
    model = JudgedTree(lambda _: step("x"), lambda _: "a")
    end = end_of(await solve(model, "DFS_w2", compat=TOOLBENCH))
    assert (end.limit, end.llm_calls, len(model.questions)) == ("max_depth", 60, 30)


@pytest.mark.parametrize(("compat", "calls"), [(TOOLBENCH, 5), (SEARCH_ONLY, 3)])
async def test_only_the_quirk_ranks_past_the_call_limit(compat: Compat, calls: int) -> None:
    # Two steps and two comparisons; the reference sees the limit after the next step's reply.
    model = JudgedTree(lambda _: step("x"), lambda _: "a")
    end = end_of(await solve(model, "DFS_w2", compat=compat, limits=Limits(max_llm_calls=3)))
    assert (end.limit, end.llm_calls) == ("max_llm_calls", calls)


async def test_the_file_says_that_siblings_were_ranked() -> None:
    end = end_of(await solve(JudgedTree(VECTOR, prefer("B")), "DFS_w2"))
    assert end.record["forward_args"]["with_filter"] is True


async def test_a_beam_of_one_needs_no_ranking() -> None:
    tree = {(): [step("A")], ("A",): [answer("x", "A1")]}
    end = end_of(await solve(JudgedTree(tree), "DFS_w1"))
    assert (end.kind, end.llm_calls) == ("answered", 2)


async def test_every_expansion_is_closed_when_an_answer_is_entered() -> None:
    events = await solve(JudgedTree(VECTOR, prefer("B", "B2")), "DFS_w2", compat=TOOLBENCH)
    begun = [e.expansion for e in events if isinstance(e, ExpansionStarted)]
    ended = [e.expansion for e in events if isinstance(e, ExpansionFinished)]
    assert sorted(ended) == begun


async def test_comparisons_show_the_functions_and_forbid_to_call_them() -> None:
    model = JudgedTree(VECTOR, prefer("B", "B2"))
    await solve(model, "DFS_w2")
    (request, swapped) = model.questions[:2]
    assert (request.tools, request.tool_choice) == (model.steps[0].tools, "none")
    assert (labels_in(request), labels_in(swapped)) == (["A", "B"], ["B", "A"])
