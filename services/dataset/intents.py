"""Intents: what a bundled instruction asks for, how it is phrased, and how it is solved.

An intent has slots (values that vary), a plan (calls whose arguments come from slots or from
earlier results), an answer, and phrasings that are split into train, dev and test *by template*,
so that no evaluated sentence pattern was ever trained on. Intents with `transfer` phrasings use
APIs that occur in no training file at all.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from services.contracts.apis import ApiRef
from services.contracts.base import WireModel
from services.contracts.errors import InvalidArgument

Split = Literal["train", "dev", "test", "transfer"]
Group = Literal["G1", "G2", "G3"]
T = TypeVar("T")
PLACEHOLDER = re.compile(r"\{(\w+)\}")


class _Slot(WireModel):
    differs_from: str | None = None
    """Name of an earlier slot whose value must be another one."""


class NumberSlot(_Slot):
    """A number with at most `decimals` decimals."""

    kind: Literal["number"]
    minimum: float
    maximum: float
    decimals: int = Field(default=1, ge=0, le=6)


class IntegerSlot(_Slot):
    """A whole number, both ends included."""

    kind: Literal["integer"]
    minimum: int
    maximum: int


class NumbersSlot(_Slot):
    """A list of whole numbers in one string: `4, 8, 15`."""

    kind: Literal["numbers"]
    count_minimum: int = Field(ge=1)
    count_maximum: int = Field(ge=1)
    minimum: int
    maximum: int


class ChoiceSlot(_Slot):
    """One of a few values."""

    kind: Literal["choice"]
    values: tuple[str, ...] = Field(min_length=1)
    closed: bool = False
    """All splits share the values: units, currency codes and the like."""


class VocabularySlot(_Slot):
    """An entry of a named list."""

    kind: Literal["vocabulary"]
    name: str = Field(pattern=r"^[a-z_]+$")


class WordsSlot(_Slot):
    """A phrase of random words of the list `words`."""

    kind: Literal["words"]
    minimum: int = Field(ge=1)
    maximum: int = Field(ge=1)


class DateSlot(_Slot):
    """An ISO date."""

    kind: Literal["date"]
    minimum_year: int = Field(ge=1)
    maximum_year: int = Field(le=9998)


Slot = Annotated[
    NumberSlot | IntegerSlot | NumbersSlot | ChoiceSlot | VocabularySlot | WordsSlot | DateSlot,
    Field(discriminator="kind"),
]


class PlannedCall(WireModel):
    """One way to take a step."""

    api: str
    arguments: dict[str, str] = {}
    """Parameter to text with `{name}` placeholders."""
    bind: dict[str, str] = {}
    """Name under which later steps know a field of the result."""

    @property
    def ref(self) -> ApiRef:
        """Address of the API."""
        return ApiRef.parse(self.api)


class Step(WireModel):
    """One step of a plan; any of its calls completes it."""

    thought: str
    calls: tuple[PlannedCall, ...] = Field(min_length=1)


class AnswerTemplate(WireModel):
    """The final answer, and which bound values it must state."""

    text: str
    numbers: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()


class Intent(WireModel):
    """One kind of instruction."""

    intent_id: str
    group: Group
    slots: dict[str, Slot] = {}
    plan: tuple[Step, ...] = Field(min_length=1)
    answer: AnswerTemplate
    phrasings: dict[Split, tuple[str, ...]]

    def apis(self) -> list[ApiRef]:
        """Every API the plan may call, alternatives included, without repetition."""
        return list(dict.fromkeys(call.ref for step in self.plan for call in step.calls))

    @property
    def is_transfer(self) -> bool:
        """Whether its APIs are kept out of training."""
        return "transfer" in self.phrasings


class _IntentFile(WireModel):
    intents: tuple[Intent, ...]


_INTENTS = TypeAdapter(_IntentFile)
_VOCABULARY = TypeAdapter(tuple[str, ...])


class IntentLibrary:
    """All intents of a data folder, with the vocabularies their slots draw from."""

    def __init__(self, intents: list[Intent], vocabularies: dict[str, tuple[str, ...]]) -> None:
        self.intents = intents
        self.vocabularies = vocabularies

    @classmethod
    def load(cls, folder: Path) -> "IntentLibrary":
        """Read `<folder>/intents/*.json` and `<folder>/vocabularies/*.json`.

        Raises:
            InvalidArgument: There is no intent, or a file is malformed; the detail names file and
                field.
        """
        files = sorted((folder / "intents").glob("*.json"))
        if not files:
            raise InvalidArgument(f"no intents in {str(folder / 'intents')!r}")
        intents = [intent for file in files for intent in _read_valid(file, _INTENTS).intents]
        vocabularies = {
            file.stem: _read_valid(file, _VOCABULARY)
            for file in sorted((folder / "vocabularies").glob("*.json"))
        }
        return cls(intents, vocabularies)


def _read_valid(file: Path, content: TypeAdapter[T]) -> T:
    try:
        return content.validate_json(file.read_bytes())
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgument(f"{file.name}: {where}: {first['msg']}") from exc
