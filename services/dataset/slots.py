"""Draws slot values that belong to one split only.

Every open value (all but the entries of closed choices) is assigned to train, dev or test by a
hash of its text, so that a value which is evaluated never occurs in training, in any intent.
"""

import datetime
import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Final

from services.contracts.errors import InvalidArgument
from services.dataset.intents import (
    ChoiceSlot,
    DateSlot,
    IntegerSlot,
    NumberSlot,
    NumbersSlot,
    Slot,
    Split,
    VocabularySlot,
    WordsSlot,
)

_MAX_DRAWS: Final = 2_000  # a split holds at least a tenth of the values: failure means too few
_BUCKETS: Final[dict[int, Split]] = {0: "test", 1: "test", 2: "dev"}

Vocabularies = Mapping[str, tuple[str, ...]]


def split_of(value: str) -> Split:
    """Split that owns an open value: 70 % train, 10 % dev, 20 % test, by SHA-256 of the text."""
    digest = hashlib.sha256(value.casefold().encode()).digest()
    return _BUCKETS.get(digest[0] % 10, "train")


def is_open(slot: Slot) -> bool:
    """Whether the slot's values are divided among the splits."""
    return not (isinstance(slot, ChoiceSlot) and slot.closed)


def draw_values(
    slots: Mapping[str, Slot], *, split: Split, vocabularies: Vocabularies, rng: random.Random
) -> dict[str, str]:
    """Draw the text of every slot.

    Args:
        slots: In the order they are drawn; `differs_from` refers to an earlier one.
        split: Owner of the open values; `transfer` uses those of `test`.
        vocabularies: Lists that vocabulary slots draw from.
        rng: Source of randomness; the same state gives the same values.

    Raises:
        InvalidArgument: A slot has no value for the split; the detail names it.
    """
    owner: Split = "test" if split == "transfer" else split
    values: dict[str, str] = {}
    for name, slot in slots.items():
        other = values.get(slot.differs_from) if slot.differs_from else None
        values[name] = _draw(name, slot, owner, vocabularies, rng, other)
    return values


def _draw(
    name: str,
    slot: Slot,
    owner: Split,
    vocabularies: Vocabularies,
    rng: random.Random,
    other: str | None,
) -> str:
    sample = _sampler(slot, owner, vocabularies, rng)
    checks_itself = isinstance(slot, WordsSlot)
    for _ in range(_MAX_DRAWS):
        value = sample()
        owned = checks_itself or not is_open(slot) or split_of(value) == owner
        if owned and value != other:
            return value
    raise InvalidArgument(f"slot {name!r} ({slot.kind}) has no value for split {owner!r}")


def _sampler(
    slot: Slot, owner: Split, vocabularies: Vocabularies, rng: random.Random
) -> Callable[[], str]:
    if isinstance(slot, NumberSlot):
        return lambda: _number(round(rng.uniform(slot.minimum, slot.maximum), slot.decimals))
    if isinstance(slot, IntegerSlot):
        return lambda: str(rng.randint(slot.minimum, slot.maximum))
    if isinstance(slot, NumbersSlot):
        return lambda: _numbers(slot, rng)
    if isinstance(slot, ChoiceSlot):
        return lambda: rng.choice(slot.values)
    if isinstance(slot, VocabularySlot):
        entries = _vocabulary(vocabularies, slot.name)
        return lambda: rng.choice(entries)
    if isinstance(slot, DateSlot):
        return lambda: _date(slot, rng)
    words = [word for word in _vocabulary(vocabularies, "words") if split_of(word) == owner]
    return lambda: " ".join(rng.sample(words, rng.randint(slot.minimum, slot.maximum)))


def _vocabulary(vocabularies: Vocabularies, name: str) -> tuple[str, ...]:
    if name not in vocabularies:
        raise InvalidArgument(f"no vocabulary {name!r}; there are {sorted(vocabularies)}")
    return vocabularies[name]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _numbers(slot: NumbersSlot, rng: random.Random) -> str:
    count = rng.randint(slot.count_minimum, slot.count_maximum)
    return ", ".join(str(rng.randint(slot.minimum, slot.maximum)) for _ in range(count))


def _date(slot: DateSlot, rng: random.Random) -> str:
    first = datetime.date(slot.minimum_year, 1, 1).toordinal()
    last = datetime.date(slot.maximum_year, 12, 31).toordinal()
    return datetime.date.fromordinal(rng.randint(first, last)).isoformat()
