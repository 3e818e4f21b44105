"""Reflexion: trials and what was learned from them."""

import pytest

from services.contracts.llm import ModelInfo
from services.contracts.planner import Limits
from tests.fakes.planner_ports import ScriptedModel, answer, end_of, give_up, reply
from tests.fakes.planner_sums import (
    HEIGHT_NAME,
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

STEP = reply((HEIGHT_NAME, height("Everest")))


async def test_the_example_computed_by_hand() -> None:
    """Algorithm 1 with three trials; M_a acts, M_e evaluates, M_sr reflects.

    t=0: act (gives up), evaluated without the model, reflect. t=1: act (call, answer), evaluate
    (fails), reflect. t=2: act (answer); the last trial is not evaluated.
    Model calls: 1 + 1, 2 + 1 + 1, 1 = 7. Memory before t=2: both reflections.
    """
    model = ScriptedModel(
        [
            give_up(),
            words("Ask for both heights."),
            *(STEP, answer("8849")),
            words("FAIL: that is the height of Everest."),
            words("Subtract them."),
            answer("4041"),
        ]
    )
    events = await solved(model, "Reflexion@3", Sums())
    end = end_of(events)
    asked = ["step", "reflect", "step", "step", "evaluate", "reflect", "step"]
    assert purposes(events) == asked
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "4041", 7)
    assert "1. Ask for both heights.\n2. Subtract them.\n" in question(model.requests[6])
    assert [tried["win"] for tried in end.record["trys"]] == [False, False, False]
    assert end.record["try_count"] == 3
    assert end.record["win"] is True


async def test_an_answer_that_passes_ends_the_search() -> None:
    model = ScriptedModel([answer("4041"), words("**PASS**")])
    end = end_of(await solved(model, "Reflexion@3", Sums()))
    assert (end.kind, end.llm_calls) == ("answered", 2)


@pytest.mark.parametrize("verdict", [None, "Hm."])
async def test_a_judge_that_cannot_be_read_costs_no_trial(verdict: str | None) -> None:
    end = end_of(
        await solved(ScriptedModel([answer("4041"), words(verdict)]), "Reflexion@3", Sums())
    )
    assert (end.answer, end.llm_calls) == ("4041", 2)


async def test_one_trial_asks_nothing_else() -> None:
    end = end_of(await solved(ScriptedModel([answer("4041")]), "Reflexion@1", Sums()))
    assert (end.answer, end.llm_calls) == ("4041", 1)


async def test_the_latest_answer_stands_when_none_passes() -> None:
    model = ScriptedModel([answer("1"), words("FAIL"), words("Think."), give_up()])
    end = end_of(await solved(model, "Reflexion@2", Sums()))
    assert (end.kind, end.answer) == ("answered", "1")


async def test_a_doubted_answer_stands_when_a_budget_ends_the_search() -> None:
    model = ScriptedModel([answer("1"), words("FAIL: no")])
    limits = Limits(max_llm_calls=2)
    end = end_of(await solved(model, "Reflexion@2", Sums(), limits=limits))
    assert (end.answer, end.llm_calls) == ("1", 2)


async def test_only_the_last_three_reflections_are_kept() -> None:
    replies = [reply for n in range(4) for reply in (give_up(), words(f"note {n}"))]
    model = ScriptedModel([*replies, answer("x")])
    await solved(model, "Reflexion@5", Sums())
    memory = question(model.requests[8])
    assert [f"note {n}" in memory for n in range(4)] == [False, True, True, True]


async def test_a_trial_without_a_reflection_leaves_the_memory_as_it_was() -> None:
    model = ScriptedModel([give_up(), words(None), answer("x")])
    await solved(model, "Reflexion@2", Sums())
    assert len(model.requests[2].messages) == 2


async def test_the_reflection_sees_the_whole_trial() -> None:
    model = ScriptedModel([STEP, give_up(), words("note"), answer("x")])
    await solved(model, "Reflexion@2", Sums())
    shown = model.requests[2].messages
    assert is_conversation(shown)
    assert "you gave up" in question(model.requests[2])
    assert [message.role for message in shown].count("tool") == 2


async def test_a_trial_that_never_ends_fails_at_the_depth_limit() -> None:
    steps = [reply((HEIGHT_NAME, height(name))) for name in ("Everest", "K2")]
    model = ScriptedModel([*steps, words("Be brief."), answer("x")])
    events = await solved(model, "Reflexion@2", Sums(), limits=Limits(max_depth=4))
    assert purposes(events) == ["step", "step", "reflect", "step"]


async def test_giving_up_every_time_is_a_give_up() -> None:
    model = ScriptedModel([give_up(), words("note"), give_up()])
    assert end_of(await solved(model, "Reflexion@2", Sums())).kind == "gave_up"


async def test_a_model_that_only_proposes_calls_is_refused() -> None:
    model = ScriptedModel([], info=ModelInfo(follows_instructions=False))
    end = end_of(await solved(model, "Reflexion@2", Sums()))
    assert (end.kind, end.llm_calls) == ("failed", 0)


async def test_what_a_trial_without_an_answer_changed_is_undone() -> None:
    calls = await changes_of("Reflexion@2", ORDERED, give_up(), words("note"), answer("none"))
    assert calls == ["order", "cancel"]


async def test_what_a_doubted_answer_changed_is_undone_only_when_another_takes_its_place() -> None:
    doubted = (ORDERED, answer("1"), words("FAIL: no"), words("note"))
    assert await changes_of("Reflexion@2", *doubted, give_up()) == ["order"]
    assert await changes_of("Reflexion@2", *doubted, answer("2")) == ["order", "cancel"]
