"""Results of calls as values in the arguments of later calls.

Arguments are parsed before anything is put in, and what was put in is not read again: a tool's
output cannot add a reference, and cannot break out of the argument it is meant for.

Source: Xu et al. 2023 (ReWOO), section 2.1, evidence variables; Kim et al. 2023 (LLMCompiler),
section 3.2, Task Fetching Unit. Deviations: a reference that is a whole argument keeps the type of
the result; it may name a field of the result (`#E1.price`, `$2.items[0].id`).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from pydantic import JsonValue

from services.contracts.toolenv import CallStatus
from services.planner.actions import Outcome

MAX_VALUE_CHARS: Final = 8192
"""Longest text of a result that is put into another call's arguments."""
MAX_REFERENCES: Final = 64
"""In one call's arguments: together with the limit above it bounds what they can grow to."""
MAX_NESTING: Final = 32
"""Of arguments, which a model wrote and we walk recursively."""
PATH: Final = r"((?:\.[^\W\d]\w{0,63}|\[\d{1,4}\]){0,8})"
"""A field of a result; the last group of a reference's pattern."""
_FIELD: Final = re.compile(r"\.(\w+)|\[(\d+)\]")


class EvidenceError(ValueError):
    """A result that a call needs does not exist; the text says which and why."""


class Reference(NamedTuple):
    """A place in the arguments where a result is meant."""

    number: int
    path: str
    shown: str
    """As the model wrote it."""


def references(value: JsonValue, pattern: re.Pattern[str]) -> set[int]:
    """The steps that arguments refer to.

    Raises:
        EvidenceError: There are more references, or deeper arguments, than are allowed.
    """
    found = [match for text in _strings(value) for match in pattern.finditer(text)]
    if len(found) > MAX_REFERENCES:
        raise EvidenceError(f"it has more than {MAX_REFERENCES} references")
    return {int(match[1]) for match in found}


def filled(
    arguments: JsonValue, pattern: re.Pattern[str], results: Mapping[int, Outcome]
) -> JsonValue:
    """The arguments with results in place of the references to them.

    Args:
        arguments: As the plan has them; keys are left alone.
        pattern: A reference: its number, and its path as `PATH`.
        results: By step; a reference to any other step is left as it stands.

    Raises:
        EvidenceError: A result is an error, lacks the field, or is too long.
    """

    def value_of(match: re.Match[str]) -> JsonValue:
        reference = Reference(int(match[1]), match[2], match[0])
        outcome = results.get(reference.number)
        return match[0] if outcome is None else _value(reference, outcome)

    return _mapped(arguments, pattern, value_of)


def _mapped(
    value: JsonValue, pattern: re.Pattern[str], value_of: Callable[[re.Match[str]], JsonValue]
) -> JsonValue:
    if isinstance(value, dict):
        return {key: _mapped(part, pattern, value_of) for key, part in value.items()}
    if isinstance(value, list):
        return [_mapped(part, pattern, value_of) for part in value]
    if not isinstance(value, str):
        return value
    whole = pattern.fullmatch(value.strip())
    if whole is not None:
        return value_of(whole)
    return pattern.sub(lambda match: _as_text(value_of(match)), value)


def _value(reference: Reference, outcome: Outcome) -> JsonValue:
    shown = reference.shown[:80]
    if outcome.status is not CallStatus.OK:
        raise EvidenceError(f"{shown} is missing: that call ended with {outcome.status}")
    value = _response(outcome.observation)
    for field in _FIELD.finditer(reference.path):
        value = _field(value, field, shown)
    if len(_as_text(value)) > MAX_VALUE_CHARS:
        raise EvidenceError(f"{shown} has more than {MAX_VALUE_CHARS} characters")
    return value


def _response(observation: str) -> JsonValue:
    """What the tool answered, out of the envelope in which every answer comes."""
    value = _parsed(observation)
    is_wrapped = isinstance(value, dict) and value.keys() == {"error", "response"}
    return value["response"] if is_wrapped and isinstance(value, dict) else value


def _field(value: JsonValue, field: re.Match[str], shown: str) -> JsonValue:
    key, index = field[1], field[2]
    inside = _parsed(value) if isinstance(value, str) else value
    if key is not None and isinstance(inside, dict) and key in inside:
        return inside[key]
    if index is not None and isinstance(inside, list) and int(index) < len(inside):
        return inside[int(index)]
    raise EvidenceError(f"{shown} is missing: the result has no {field[0]}")


def _parsed(text: str) -> JsonValue:
    """The JSON value that a text is, else the text."""
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _as_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _strings(value: JsonValue, depth: int = 0) -> Iterator[str]:
    if depth > MAX_NESTING:
        raise EvidenceError(f"its arguments are nested deeper than {MAX_NESTING} levels")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part, depth + 1)
