"""AgentVerse: recruit, decide, act, evaluate."""

import asyncio

import pytest

from services.contracts.llm import ChatRequest, Completion, ModelInfo
from services.contracts.planner import Limits
from tests.fakes.planner_ports import ScriptedModel, answer, end_of, give_up, reply
from tests.fakes.planner_sums import (
    HEIGHT_NAME,
    Sums,
    height,
    is_conversation,
    purposes,
    question,
    solved,
    words,
)

pytestmark = pytest.mark.anyio

EVEREST = reply((HEIGHT_NAME, height("Everest")))
GROUP = words("1. a surveyor\n2. a climber\n3. an accountant")
ALONE = words("1. a surveyor")
AGREE = words("AGREE")


async def test_the_example_computed_by_hand() -> None:
    """Section 2, two rounds; vertical structure with one solver and two reviewers.

    Round 1: recruit 1; propose 1, review 2 (one objects), revise 1, review 2 (all agree); act 2
    (call, answer); evaluate 1 (not done) = 10. Round 2: recruit 1, propose 1, review 2, act 1,
    evaluate 1 (done) = 6. Sixteen model calls, one tool call.
    """
    model = ScriptedModel(
        [
            *(GROUP, words("Look up Everest."), AGREE, words("And Mont Blanc?")),
            *(words("Look up both."), AGREE, words("Agree.")),
            *(EVEREST, answer("8849"), words("NOT DONE: that is no difference")),
            *(GROUP, words("Subtract."), AGREE, AGREE, answer("4041"), words("DONE")),
        ]
    )
    events = await solved(model, "AgentVerse", Sums())
    end = end_of(events)
    assert purposes(events) == [
        *("recruit", "propose", "review", "review", "propose", "review", "review"),
        *("step", "step", "evaluate"),
        *("recruit", "propose", "review", "review", "step", "evaluate"),
    ]
    assert (end.kind, end.answer) == ("answered", "4041")
    assert (end.llm_calls, end.tool_calls) == (16, 1)
    assert all(is_conversation(request.messages) for request in model.requests)
    assert is_conversation(end.solution_path)


async def test_feedback_reaches_the_next_group_and_its_solver() -> None:
    model = ScriptedModel(
        [
            *(ALONE, words("Guess."), answer("3"), words("NOT DONE: do not guess")),
            *(ALONE, words("Look."), answer("4041"), words("DONE")),
        ]
    )
    await solved(model, "AgentVerse", Sums())
    assert "do not guess" in question(model.requests[4])
    assert "do not guess" in question(model.requests[5])
    assert "found wanting" in (model.requests[6].messages[-2].content or "")


async def test_reviewers_who_never_agree_do_not_hold_up_the_decision() -> None:
    model = ScriptedModel(
        [
            words("1. a surveyor\n2. a critic"),
            *(words("first"), words("no"), words("second"), words("no"), words("third")),
            *(answer("4041"), words("DONE")),
        ]
    )
    events = await solved(model, "AgentVerse", Sums())
    assert purposes(events)[1:6] == ["propose", "review", "propose", "review", "propose"]
    assert question(model.requests[6]).startswith("The group decided:\nthird\n")


async def test_the_last_round_is_not_evaluated_and_its_answer_stands() -> None:
    no = words("NOT DONE: more")
    rounds = [ALONE, words("p"), answer("1"), no, ALONE, words("p"), answer("2"), no]
    model = ScriptedModel([*rounds, ALONE, words("p"), answer("3")])
    end = end_of(await solved(model, "AgentVerse", Sums()))
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "3", 11)


async def test_work_that_ended_in_words_is_answered_from() -> None:
    model = ScriptedModel(
        [ALONE, words("p"), EVEREST, words("It is 8849."), words("DONE"), words("8849 m")]
    )
    events = await solved(model, "AgentVerse", Sums())
    end = end_of(events)
    assert purposes(events)[-2:] == ["evaluate", "answer"]
    assert end.answer == "8849 m"
    assert len(end.record["compare_candidates"]) == 1


async def test_a_group_that_gives_up_is_evaluated_and_replaced() -> None:
    model = ScriptedModel(
        [
            *(ALONE, words("p"), EVEREST, give_up(), words("NOT DONE: go on")),
            *(ALONE, words("q"), answer("8849"), words("DONE")),
        ]
    )
    end = end_of(await solved(model, "AgentVerse", Sums()))
    assert (end.kind, end.answer) == ("answered", "8849")
    assert is_conversation(end.solution_path)
    assert [message.role for message in end.solution_path].count("tool") == 2


async def test_nobody_recruited_and_nothing_proposed_still_acts() -> None:
    model = ScriptedModel([words(None), words(None), answer("4041"), words(None)])
    events = await solved(model, "AgentVerse", Sums())
    assert purposes(events) == ["recruit", "propose", "step", "evaluate"]
    assert end_of(events).answer == "4041"


async def test_a_group_acts_in_four_steps_at_most() -> None:
    mountains = ("Everest", "K2", "Mont Blanc", "Olympus Mons")
    steps = [reply((HEIGHT_NAME, height(mountain))) for mountain in mountains]
    model = ScriptedModel([ALONE, words("p"), *steps, words("DONE"), words("x")])
    end = end_of(await solved(model, "AgentVerse", Sums()))
    assert (end.answer, end.tool_calls) == ("x", 4)


async def test_no_round_begins_below_the_depth_limit() -> None:
    model = ScriptedModel([ALONE, words("p"), EVEREST, words("x")])
    events = await solved(model, "AgentVerse", Sums(), limits=Limits(max_depth=2))
    assert purposes(events) == ["recruit", "propose", "step", "answer"]


async def test_an_answer_stands_when_a_budget_ends_its_evaluation() -> None:
    model = ScriptedModel([ALONE, words("p"), answer("4041")])
    end = end_of(await solved(model, "AgentVerse", Sums(), limits=Limits(max_llm_calls=3)))
    assert (end.kind, end.answer) == ("answered", "4041")


async def test_a_rejected_answer_is_the_best_when_a_budget_ends_the_search() -> None:
    model = ScriptedModel([ALONE, words("p"), answer("3"), words("NOT DONE: no")])
    end = end_of(await solved(model, "AgentVerse", Sums(), limits=Limits(max_llm_calls=4)))
    assert (end.kind, end.is_best_effort, end.answer) == ("exhausted", True, "3")


class Reviewers(ScriptedModel):
    """No reviewer is answered before both were asked."""

    def __init__(self) -> None:
        replies = {"Put together": GROUP, "Propose": words("p"), "The group": answer("1")}
        super().__init__(
            lambda request: next(
                (text for start, text in replies.items() if start in question(request)), AGREE
            )
        )
        self.asked = 0
        self._both = asyncio.Event()

    async def complete(self, request: ChatRequest) -> Completion:
        if "A colleague proposes" in question(request):
            self.asked += 1
            if self.asked == 2:
                self._both.set()
            await self._both.wait()
        return await super().complete(request)


async def test_reviewers_are_asked_at_once_in_parallel_mode() -> None:
    model = Reviewers()
    end = end_of(await solved(model, "AgentVerse", Sums(), mode="parallel"))
    assert (end.answer, model.asked) == ("1", 2)


async def test_a_model_that_only_proposes_calls_is_refused() -> None:
    model = ScriptedModel([], info=ModelInfo(follows_instructions=False))
    assert end_of(await solved(model, "AgentVerse", Sums())).kind == "failed"
