"""Best-first search against costs computed by hand from ToolChain*'s equations."""

import pytest

from services.contracts.llm import ChatRequest
from services.contracts.planner import Limits
from tests.fakes.judged_tree import (
    JudgedTree,
    labels_in,
    outline,
    path_of,
    purposes,
    solve,
    step,
    tree_of,
)
from tests.fakes.planner_ports import answer, end_of

pytestmark = pytest.mark.anyio


def plans(left: dict[str, int]):
    """A judge that lists so many calls after a trajectory with that last thought."""

    def judge(request: ChatRequest) -> str:
        return "\n".join(f"{k}. call" for k in range(1, left[labels_in(request)[-1]] + 1))

    return judge


# f = g + h with g = sum (1 - share of the samples), h = 1 - steps / (steps + imagined), N = 3:
#
#   expanded  samples      share  g                h                f
#   root      A, A         2/3    1/3              1 - 1/(1+3)=3/4  13/12   <- least
#             B            1/3    2/3              1 - 1/(1+1)=1/2  14/12
#   A         A1, A2, A3   1/3    1/3 + 2/3 = 1    1 - 2/(2+1)=1/3  16/12 each
#   B (14/12) "x", "x"     2/3    2/3 + 1/3 = 1    0                12/12   <- least: the end
#             B1           1/3    2/3 + 2/3 = 4/3  1 - 2/(2+2)=1/2  22/12
#
# Calls: 3 + 2 plans, 3 + 3 plans, 3 + 1 plan = 15. The second A and the second "x" are no states.
TREE = {
    (): [step("A"), step("B"), step("A")],
    ("A",): [step("A1"), step("A2"), step("A3")],
    ("B",): [answer("x", "done"), step("B1"), answer("x", "done")],
}
LEFT = plans({"A": 3, "B": 1, "A1": 1, "A2": 1, "A3": 1, "B1": 2})


async def test_the_tree_is_the_one_computed_by_hand() -> None:
    model = JudgedTree(TREE, LEFT)
    events = await solve(model, "BestFirst_w3")
    end = end_of(events)
    assert [path_of(request) for request in model.steps] == [()] * 3 + [("A",)] * 3 + [("B",)] * 3
    assert [labels_in(request)[-1] for request in model.questions] == [
        *("A", "B"),
        *("A1", "A2", "A3"),
        "B1",
    ]
    assert purposes(events) == ["imagine"] * 6
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "x", 15)


async def test_equal_samples_are_one_state() -> None:
    end = end_of(await solve(JudgedTree(TREE, LEFT), "BestFirst_w3"))
    first, second, third = tree_of(end)["children"]
    flags = [
        outline({"children": [child]})[child["description"]][:2] for child in (first, second, third)
    ]
    assert flags == [(1, False), (2, False), (0, True)]


async def test_an_answer_waits_until_nothing_is_cheaper() -> None:
    # root, N = 5: "rash" 1/5 -> f = 4/5; A 4/5 -> g = 1/5, h = 1/2, f = 7/10: A goes on.
    # A: five times "sound" -> g = 1/5, f = 1/5: the least.
    tree = {
        (): [answer("rash", "R"), *[step("A")] * 4],
        ("A",): [answer("sound", "S")] * 5,
    }
    end = end_of(await solve(JudgedTree(tree, plans({"A": 1})), "BestFirst_w5"))
    assert (end.answer, end.llm_calls) == ("sound", 11)


async def test_a_budget_that_ends_leaves_the_cheapest_answer() -> None:
    # root, N = 10: A 7/10 -> g = 0.3, h = 1/2, f = 0.8; "rare" 1/10 -> 0.9; "often" 2/10 -> 0.8.
    # A is the oldest of the least; the budget ends before it is expanded.
    tree = {(): [*[step("A")] * 7, answer("rare", "R"), *[answer("often", "O")] * 2]}
    model, limits = JudgedTree(tree, plans({"A": 1})), Limits(max_llm_calls=11)
    end = end_of(await solve(model, "BestFirst_w10", limits=limits))
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "often", 11)


async def test_a_plan_that_cannot_be_read_counts_one_half() -> None:
    # root, N = 2: A and B, g = 1/2 each; A unreadable: h = 1/2, f = 1; B: h = 1 - 1/4, f = 5/4.
    tree = {(): [step("A"), step("B")], ("A",): [answer("x", "a"), answer("x", "a")]}
    model = JudgedTree(tree, lambda r: "no idea" if labels_in(r)[-1] == "A" else "1. x\n2) y\n- z")
    end = end_of(await solve(model, "BestFirst_w2"))
    assert path_of(model.steps[2]) == ("A",)
    assert (end.kind, end.llm_calls) == ("answered", 6)


async def test_samples_are_drawn_from_one_question_with_seeds_of_their_own() -> None:
    model = JudgedTree(TREE, LEFT)
    await solve(model, "BestFirst_w3")
    first = model.steps[:3]
    assert len({request.messages for request in first}) == 1
    assert [(r.seed, r.temperature) for r in first] == [(0, 0.7), (1, 0.7), (2, 0.7)]
