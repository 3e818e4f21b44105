"""Slot values belong to one split."""

import random

import pytest

from services.contracts.errors import InvalidArgument
from services.dataset.intents import (
    ChoiceSlot,
    DateSlot,
    IntegerSlot,
    NumberSlot,
    NumbersSlot,
    VocabularySlot,
    WordsSlot,
)
from services.dataset.slots import draw_values, split_of

WORDS = tuple(f"{a}{b}{c}" for a in "bcdf" for b in "aeiou" for c in "lmnrst")


def draw(split: str, seed: int = 0, **slots: object) -> dict[str, str]:
    return draw_values(
        slots,  # type: ignore[arg-type]
        split=split,  # type: ignore[arg-type]
        vocabularies={"words": WORDS, "names": WORDS},
        rng=random.Random(seed),
    )


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_open_values_belong_to_the_split_that_draws_them(split: str) -> None:
    slots = {
        "number": NumberSlot(kind="number", minimum=0, maximum=900, decimals=1),
        "integer": IntegerSlot(kind="integer", minimum=1, maximum=900),
        "list": NumbersSlot(
            kind="numbers", count_minimum=3, count_maximum=5, minimum=1, maximum=90
        ),
        "name": VocabularySlot(kind="vocabulary", name="names"),
        "day": DateSlot(kind="date", minimum_year=1990, maximum_year=2030),
    }
    values = [value for seed in range(30) for value in draw(split, seed, **slots).values()]
    assert {split_of(value) for value in values} == {split}


def test_every_word_of_a_phrase_belongs_to_the_split() -> None:
    phrase = draw("test", text=WordsSlot(kind="words", minimum=3, maximum=3))["text"]
    assert {split_of(word) for word in phrase.split()} == {"test"}


def test_the_transfer_split_draws_values_of_the_test_split() -> None:
    value = draw("transfer", n=IntegerSlot(kind="integer", minimum=1, maximum=900))["n"]
    assert split_of(value) == "test"


def test_closed_values_are_shared_by_all_splits() -> None:
    slot = ChoiceSlot(kind="choice", values=("km", "mile"), closed=True)
    drawn = {
        draw(split, seed, unit=slot)["unit"] for split in ("train", "test") for seed in range(9)
    }
    assert drawn == {"km", "mile"}


def test_a_slot_that_differs_from_another_never_equals_it() -> None:
    slots = {
        "source": ChoiceSlot(kind="choice", values=("a", "b"), closed=True),
        "target": ChoiceSlot(kind="choice", values=("a", "b"), closed=True, differs_from="source"),
    }
    drawn = [draw("train", seed, **slots) for seed in range(20)]
    assert all(values["source"] != values["target"] for values in drawn)


def test_a_slot_without_a_value_for_the_split_is_named() -> None:
    owned = next(word for word in WORDS if split_of(word) == "train")
    with pytest.raises(InvalidArgument, match="'colour' .* 'test'"):
        draw("test", colour=ChoiceSlot(kind="choice", values=(owned,)))


def test_an_unknown_vocabulary_is_named() -> None:
    with pytest.raises(InvalidArgument, match="no vocabulary 'planets'"):
        draw("test", planet=VocabularySlot(kind="vocabulary", name="planets"))


def test_the_same_seed_draws_the_same_values() -> None:
    slot = NumberSlot(kind="number", minimum=0, maximum=900, decimals=2)
    assert draw("train", 5, n=slot) == draw("train", 5, n=slot)
