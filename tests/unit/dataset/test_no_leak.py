"""Nothing that is evaluated occurs in the training data: no template, no open value, no API."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.contracts.apis import ApiDocument
from services.dataset.instructions import Instruction, draw_instructions, offered_apis
from services.dataset.intents import Intent, IntentLibrary, Split
from services.dataset.slots import is_open
from services.dataset.trajectories import held_out_apis
from services.toolenv.catalog import load_catalogue

DATA = Path(__file__).resolve().parents[3] / "data"
N_TRAINING = 20_000  # about as many instructions as the bundled model was trained on
N_EVALUATED = 3_000
EVALUATED: tuple[Split, ...] = ("dev", "test", "transfer")


@pytest.fixture(scope="module")
def library() -> IntentLibrary:
    return IntentLibrary.load(DATA / "instructions")


@pytest.fixture(scope="module")
def catalogue() -> list[ApiDocument]:
    return load_catalogue([DATA / "toolenv" / "tools"]).documents()


@pytest.fixture(scope="module")
def training(library: IntentLibrary) -> list[Instruction]:
    stream = draw_instructions(library, split="train", seed=1)
    return list(itertools.islice(stream, N_TRAINING))


def open_values(instruction: Instruction) -> Iterator[str]:
    slots = instruction.intent.slots
    return (value for name, value in instruction.values.items() if is_open(slots[name]))


def words_of(values: Iterator[str]) -> set[str]:
    return {value.casefold() for value in values}


@pytest.mark.parametrize("split", EVALUATED)
def test_no_open_value_of_an_evaluated_instruction_is_one_of_training(
    library: IntentLibrary, training: list[Instruction], split: Split
) -> None:
    trained = words_of(value for item in training for value in open_values(item))
    stream = draw_instructions(library, split=split, seed=99)
    evaluated = words_of(
        value for item in itertools.islice(stream, N_EVALUATED) for value in open_values(item)
    )
    assert len(evaluated) > 100
    assert not trained & evaluated


def test_no_evaluated_phrasing_is_a_training_phrasing(library: IntentLibrary) -> None:
    def phrasings(split: Split) -> set[str]:
        return {
            " ".join(text.casefold().split())
            for intent in library.intents
            for text in intent.phrasings.get(split, ())
        }

    trained = phrasings("train")
    assert len(trained) > 1_000
    assert all(not trained & phrasings(split) for split in EVALUATED)


def test_bundled_test_instructions_come_from_test_phrasings_only() -> None:
    for split in EVALUATED:
        for file in (DATA / "instructions").glob(f"G*_{split}.json"):
            queries = json.loads(file.read_text(encoding="utf-8"))
            assert queries
            assert all(f"#{split}" in query["template_id"] for query in queries)


def test_no_training_plan_uses_a_held_out_api(library: IntentLibrary) -> None:
    held_out = held_out_apis(library)
    trained: list[Intent] = [item for item in library.intents if item.phrasings.get("train")]
    assert len(held_out) >= 6
    assert all(not held_out & set(intent.apis()) for intent in trained)


def test_no_held_out_api_is_offered_in_training(
    library: IntentLibrary, training: list[Instruction], catalogue: list[ApiDocument]
) -> None:
    held_out = held_out_apis(library)
    rng = random.Random(5)
    offered = {
        ref
        for item in training[:500]
        for ref in offered_apis(item, catalogue, rng=rng, size=7, excluded=held_out)
    }
    assert len(offered) > 60
    assert not offered & held_out


def test_there_are_enough_bundled_instructions_of_every_group() -> None:
    counts = {
        group: sum(
            len(json.loads(file.read_text(encoding="utf-8")))
            for file in (DATA / "instructions").glob(f"{group}_*.json")
        )
        for group in ("G1", "G2", "G3")
    }
    assert sum(counts.values()) >= 120
    assert min(counts.values()) >= 40
