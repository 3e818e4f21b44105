"""The `Finish` function: how a model ends its trajectory (interop 3.1).

Deviations from the reference: arguments that are JSON but no object are invalid arguments instead
of a crash, and without `repair` broken JSON is invalid arguments instead of being searched.
"""

import json
from typing import NamedTuple

from pydantic import JsonValue

from services.contracts.toolbench.functions import GIVE_ANSWER, GIVE_UP
from services.contracts.toolenv import CallStatus

_RETURN_TYPE_MARK = '"return_type": "'
_FINAL_ANSWER_MARK = '"final_answer": "'

# The reference's texts, with the quotes that make them invalid JSON: protocol constants.
_NO_RETURN_TYPE = '{error:"must have "return_type""}'
_NO_FINAL_ANSWER = '{error:"must have "final_answer""}'
_BAD_RETURN_TYPE = '{error:""return_type" is not a valid choice"}'
_ANSWERED = '{"response":"successfully giving the final answer."}'
_GAVE_UP = '{"response":"chose to give up and restart"}'


class Finished(NamedTuple):
    """Outcome of a Finish call."""

    status: CallStatus
    """`FINISHED`, `GAVE_UP` or `INVALID_ARGUMENTS`."""
    observation: str
    answer: str | None
    """Plain text of the final answer, when there is one."""


def run_finish(arguments: str, *, repair: bool) -> Finished:
    """Interpret the arguments of a Finish call.

    Args:
        arguments: The model's text.
        repair: Search broken JSON for the fields, as the reference does.
    """
    fields = _fields(arguments, repair=repair)
    if "return_type" not in fields:
        return Finished(CallStatus.INVALID_ARGUMENTS, _NO_RETURN_TYPE, None)
    return_type = fields["return_type"]
    if return_type == GIVE_UP:
        return Finished(CallStatus.GAVE_UP, _GAVE_UP, None)
    if return_type != GIVE_ANSWER:
        return Finished(CallStatus.INVALID_ARGUMENTS, _BAD_RETURN_TYPE, None)
    if "final_answer" not in fields:
        return Finished(CallStatus.INVALID_ARGUMENTS, _NO_FINAL_ANSWER, None)
    return Finished(CallStatus.FINISHED, _ANSWERED, _plain(fields["final_answer"]))


def _fields(arguments: str, *, repair: bool) -> dict[str, JsonValue]:
    try:
        parsed: JsonValue = json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return _searched(arguments) if repair else {}
    return parsed if isinstance(parsed, dict) else {}


def _searched(text: str) -> dict[str, JsonValue]:
    """Fields of broken JSON, found by their marks (exactly one space after the colon)."""
    fields: dict[str, JsonValue] = {}
    _, mark, rest = text.partition(_RETURN_TYPE_MARK)
    if mark:
        named = next((kind for kind in (GIVE_ANSWER, GIVE_UP) if rest.startswith(kind)), None)
        fields["return_type"] = named or rest.partition('",')[0]
    _, mark, rest = text.partition(_FINAL_ANSWER_MARK)
    if mark:
        fields["final_answer"] = rest
    return fields


def _plain(value: JsonValue) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # an escape may be half a surrogate pair
