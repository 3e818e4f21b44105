"""Task templates about geography, text, colours, health, films, books and games."""

from typing import Any

import pytest

from tests.unit.data import intent_checks

_STEMS = (
    "city_atlas", "country_facts", "text_tools", "encoder", "colours", "health_formulas",
    "film_table", "book_table", "dice", "word_scores", "recipe_scaler", "sports_calculator",
    "multi_b",
)  # fmt: skip
_INTENTS = [
    pytest.param(stem, intent, id=intent["intent_id"])
    for stem in _STEMS
    for intent in intent_checks.load_intents(stem)
]
_ROUNDS = 3


@pytest.mark.parametrize(("stem", "intent"), _INTENTS)
def test_template_is_well_formed(stem: str, intent: dict[str, Any]) -> None:
    assert intent_checks.structure_problems(intent, stem) == []


@pytest.mark.parametrize(("stem", "intent"), _INTENTS)
def test_phrasings_hold_every_slot_once(stem: str, intent: dict[str, Any]) -> None:
    assert intent_checks.phrasing_problems(intent) == []


@pytest.mark.parametrize(("stem", "intent"), _INTENTS)
def test_held_out_phrasings_use_only_words_of_train_phrasings(
    stem: str, intent: dict[str, Any]
) -> None:
    assert intent_checks.unknown_words(intent) == []


@pytest.mark.parametrize("round_", range(_ROUNDS))
@pytest.mark.parametrize(("stem", "intent"), _INTENTS)
def test_plan_binds_the_answer_for_random_values(
    stem: str, intent: dict[str, Any], round_: int
) -> None:
    values = intent_checks.sample_slots(intent, intent_checks.seeded(intent, round_))
    known = intent_checks.run_plan(intent, values)
    assert intent_checks.answer_problems(intent, known) == []
    assert intent_checks.alternative_disagreements(intent, values) == []


def test_intent_ids_are_unique() -> None:
    ids = [str(param.id) for param in _INTENTS]
    assert len(set(ids)) == len(ids)


def test_half_of_the_multi_step_templates_use_an_earlier_result() -> None:
    intents = intent_checks.load_intents("multi_b")
    dependent = [intent for intent in intents if intent_checks.uses_earlier_result(intent)]
    assert len(dependent) * 2 >= len(intents) >= 14
