"""BabyAGI: a list of tasks."""

import pytest

from services.contracts.llm import ModelInfo
from services.contracts.planner import Limits
from services.planner.search.babyagi import MAX_ROUNDS
from tests.fakes.planner_ports import ScriptedModel, answer, end_of, give_up, reply
from tests.fakes.planner_sums import (
    HEIGHT_NAME,
    MINUS_NAME,
    ORDERED,
    Sums,
    changes_of,
    height,
    is_conversation,
    purposes,
    question,
    solved,
    words,
)

pytestmark = pytest.mark.anyio

EVEREST = reply((HEIGHT_NAME, height("Everest")))
BLANC = reply((HEIGHT_NAME, height("Mont Blanc")))
MINUS = reply((MINUS_NAME, '{"a": 8849, "b": 4808}'))


async def test_the_example_computed_by_hand() -> None:
    """The original's loop: pop, execute, create, prioritise; then the answer.

    List [everest, blanc]. Everest: call, result in words; new task [difference]; order "1, 2" keeps
    [blanc, difference]. Blanc: call, words; nothing new; one task is left, nothing to order.
    Difference: call, words; DONE. Model calls: 1 + (2 + 1 + 1) + (2 + 1) + (2 + 1) + 1 = 12.
    """
    model = ScriptedModel(
        [
            words("1. Height of Everest\n2. Height of Mont Blanc"),
            *(EVEREST, words("8849"), words("1. Take the difference"), words("1, 2")),
            *(BLANC, words("4808"), words("NONE")),
            *(MINUS, words("4041"), words("DONE")),
            words("4041 metres"),
        ]
    )
    events = await solved(model, "BabyAGI", Sums())
    end = end_of(events)
    assert purposes(events) == [
        *("tasks", "step", "step", "tasks", "order"),
        *("step", "step", "tasks"),
        *("step", "step", "tasks", "answer"),
    ]
    assert (end.kind, end.answer, end.tool_calls) == ("answered", "4041 metres", 3)
    assert all(is_conversation(request.messages) for request in model.requests)


async def test_the_order_is_what_the_model_says_and_loses_no_task() -> None:
    model = ScriptedModel(
        [
            words("- a\n- b\n- c\n- d"),
            *(words("done with a"), words("NONE"), words("3, 9, 3")),
            *(words("done with d"), words("DONE"), words("x")),
        ]
    )
    await solved(model, "BabyAGI", Sums())
    assert "1. b\n2. c\n3. d" in question(model.requests[3])
    assert "Now do this task, and nothing beyond it: d" in question(model.requests[4])
    assert "1. b\n2. c" in question(model.requests[5])


async def test_an_answer_during_a_task_is_the_answer() -> None:
    model = ScriptedModel([words("1. a\n2. b"), EVEREST, answer("8849")])
    end = end_of(await solved(model, "BabyAGI", Sums()))
    assert (end.answer, end.llm_calls) == ("8849", 3)
    assert is_conversation(end.solution_path)


async def test_a_task_that_is_given_up_is_dropped() -> None:
    model = ScriptedModel(
        [
            words("1. a\n2. b"),
            *(EVEREST, give_up(), words("NONE")),
            *(words("done with b"), words("DONE"), words("x")),
        ]
    )
    end = end_of(await solved(model, "BabyAGI", Sums()))
    assert end.answer == "x"
    last = model.requests[-1].messages
    assert is_conversation(last)
    assert [message.role for message in last].count("tool") == 0
    assert any("given up" in (message.content or "") for message in last)


async def test_what_a_dropped_task_changed_is_undone() -> None:
    calls = await changes_of(
        "BabyAGI", words("1. a"), ORDERED, give_up(), words("NONE"), words("nothing was ordered")
    )
    assert calls == ["order", "cancel"]


async def test_a_task_takes_three_steps_at_most() -> None:
    model = ScriptedModel([words("1. a"), *(EVEREST, BLANC, MINUS), words("NONE"), words("x")])
    events = await solved(model, "BabyAGI", Sums())
    assert purposes(events) == ["tasks", "step", "step", "step", "tasks", "answer"]


async def test_tasks_that_beget_tasks_end_at_the_bound() -> None:
    """Each round has a step in words and a question for tasks; then the answer is asked for."""
    model = ScriptedModel(lambda request: words(f"1. task {len(request.messages)}"))
    end = end_of(await solved(model, "BabyAGI", Sums(), limits=Limits(max_depth=1000)))
    assert (end.kind, end.llm_calls) == ("answered", 1 + 2 * MAX_ROUNDS + 1)


async def test_no_task_begins_below_the_depth_limit() -> None:
    model = ScriptedModel([words("1. a\n2. b"), words("done"), words("NONE"), words("x")])
    end = end_of(await solved(model, "BabyAGI", Sums(), limits=Limits(max_depth=1)))
    assert end.answer == "x"


@pytest.mark.parametrize("text", [None, "I would just answer."])
async def test_without_tasks_the_answer_is_asked_for_at_once(text: str | None) -> None:
    end = end_of(await solved(ScriptedModel([words(text), words("x")]), "BabyAGI", Sums()))
    assert (end.answer, end.llm_calls) == ("x", 2)


async def test_nothing_at_all_is_a_give_up() -> None:
    assert end_of(await solved(ScriptedModel([words(None)] * 2), "BabyAGI", Sums())).kind == (
        "gave_up"
    )


async def test_a_budget_in_the_middle_of_a_task_ends_it() -> None:
    model = ScriptedModel([words("1. a"), EVEREST])
    end = end_of(await solved(model, "BabyAGI", Sums(), limits=Limits(max_llm_calls=2)))
    assert (end.kind, end.limit, end.tool_calls) == ("exhausted", "max_llm_calls", 1)
    assert len(end.record["trys"][0]["chain"]) == 2


async def test_a_model_that_only_proposes_calls_is_refused() -> None:
    model = ScriptedModel([], info=ModelInfo(follows_instructions=False))
    assert end_of(await solved(model, "BabyAGI", Sums())).kind == "failed"
