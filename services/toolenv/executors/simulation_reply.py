"""What a simulator's reply is worth: read, and compared with the document's example."""

import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic import JsonValue

_MAX_REPLY_CHARS = 65_536


class SimulatedReply(NamedTuple):
    """What a model said the API answers."""

    error: str
    response: JsonValue


class BadReply(ValueError):
    """A reply that cannot be used; the text says why, for the model."""


_ERROR_FIELD: Final = re.compile(r'"error"\s*:\s*"((?:[^"\\]|\\.){0,4096})"')
_RESPONSE_FIELD: Final = re.compile(r'"response"\s*:\s*')
_FENCE: Final = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


def parse_reply(text: str) -> SimulatedReply:
    """Read a model's reply.

    JSON, also in a code fence; else, as MirrorAPI's server does, the two fields by their names, the
    response taken to the end of the text.

    Raises:
        BadReply: There is no such reply in the text.
    """
    if len(text) > _MAX_REPLY_CHARS:
        raise BadReply(f"{len(text)} characters exceed the limit of {_MAX_REPLY_CHARS}")
    fenced = _FENCE.search(text)
    for candidate in (text, *((fenced.group(1),) if fenced else ())):
        value = _loaded(candidate)
        if isinstance(value, dict):
            return _reply(value)
    error, response = _ERROR_FIELD.search(text), _RESPONSE_FIELD.search(text)
    if response is None:
        raise BadReply('it is not a JSON object with the keys "error" and "response"')
    rest = text[response.end() :].strip().removesuffix("```").strip()
    shorter = rest.removesuffix("}").strip()
    told = _loaded(f'"{error.group(1)}"') if error else ""
    values = (value for value in map(_loaded, (rest, shorter)) if value is not None)
    return SimulatedReply(str(told or ""), next(values, shorter.strip('"')))


def _loaded(text: str) -> JsonValue:
    """The JSON value, `None` when it is none."""
    try:
        value: JsonValue = json.loads(text.strip(), strict=False, parse_constant=lambda _: None)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value


def _reply(value: dict[str, JsonValue]) -> SimulatedReply:
    if "error" not in value and "response" not in value:
        raise BadReply('its JSON object has neither the key "error" nor "response"')
    error = value.get("error")
    told = error if isinstance(error, str) else json.dumps(error) if error else ""
    return SimulatedReply(told, value.get("response", ""))


_MAX_DEPTH = 12
_MAX_ITEMS_CHECKED = 20
_LEAVES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int, float),
    "float": (int, float),
    "bool": (bool,),
}
"""Names that ToolBench's response schemas use for kinds of values."""
_REPORT_KEYS: Final = frozenset({"message", "error", "errors", "code", "status", "success", "msg"})


def fitted(response: JsonValue, template: JsonValue) -> JsonValue:
    """The response, if its structure is the document's; one that was printed as text is read.

    Raises:
        BadReply: It has another structure.
    """
    if isinstance(template, str):
        template = _structure(template)  # published documents hold some as text
    if isinstance(response, str) and isinstance(template, dict | list):
        response = _structure(response) or response
    problem = mismatch(response, template)
    if problem:
        raise BadReply(problem)
    return response


def _structure(text: str) -> JsonValue:
    value = _loaded(text) if text.lstrip()[:1] in ("{", "[") else None
    return value if isinstance(value, dict | list) else None


def mismatch(response: JsonValue, template: JsonValue) -> str:
    """How a response differs in structure from the document's; empty when it does not.

    Every key of the template must be there, with a value of its kind; further keys are allowed,
    null is allowed everywhere, and of lists every entry must fit. A template that only reports on
    the call (`{"message": "str"}`) was recorded from a failure and asks for nothing.

    Args:
        response: What the simulator returned.
        template: An example of a response, or ToolBench's schema of one, whose leaves are the
            names of types.
    """
    if isinstance(template, dict) and set(template) <= _REPORT_KEYS:
        return ""
    return _mismatch(response, template, "response", 0) if isinstance(template, dict | list) else ""


def _mismatch(value: JsonValue, template: JsonValue, where: str, depth: int) -> str:
    if value is None or template is None or depth > _MAX_DEPTH:
        return ""
    if isinstance(template, dict):
        return _object_mismatch(value, template, where, depth)
    if isinstance(template, list):
        return _list_mismatch(value, template, where, depth)
    kinds = _kinds(template)
    is_bool = isinstance(value, bool)
    if not kinds or (isinstance(value, kinds) and (is_bool == (kinds == (bool,)))):
        return ""
    return f"{where} is {_kind(value)} and should be {_kind_of_types(kinds)}"


def _object_mismatch(
    value: JsonValue, template: Mapping[str, JsonValue], where: str, depth: int
) -> str:
    if not isinstance(value, dict):
        return f"{where} is {_kind(value)} and should be an object"
    wanted = {key: item for key, item in template.items() if key != "_list_length"}
    missing = [key for key in wanted if key not in value]
    if missing:
        return f"{where} lacks {', '.join(repr(key[:60]) for key in missing[:5])}"
    found = (_mismatch(value[key], wanted[key], f"{where}.{key[:60]}", depth + 1) for key in wanted)
    return next((text for text in found if text), "")


def _list_mismatch(value: JsonValue, template: list[JsonValue], where: str, depth: int) -> str:
    if not isinstance(value, list):
        return f"{where} is {_kind(value)} and should be a list"
    if not template or not isinstance(template[0], dict | list):
        return ""
    found = (
        _mismatch(item, template[0], f"{where}[{index}]", depth + 1)
        for index, item in enumerate(value[:_MAX_ITEMS_CHECKED])
    )
    return next((text for text in found if text), "")


def _kinds(template: JsonValue) -> tuple[type, ...]:
    """Types that a leaf of a template allows; none where it does not say."""
    if isinstance(template, str):
        if template in _LEAVES:
            return _LEAVES[template]
        is_note = template.startswith(("list of", "empty", "None")) or not template
        return () if is_note else (str,)
    if isinstance(template, bool):
        return (bool,)
    return (int, float)


def _kind(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return {str: "a text", int: "a number", float: "a number", list: "a list"}.get(
        type(value), "an object"
    )


def _kind_of_types(kinds: tuple[type, ...]) -> str:
    if kinds == (str,):
        return "a text"
    return "a boolean" if kinds == (bool,) else "a number"
