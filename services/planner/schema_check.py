"""Checks a call's arguments against its function's schema before anything is executed.

Tools and MCP servers are strangers, and so are their schemas: only keywords that cannot reach out
(`$ref`) or run away (`pattern`, `uniqueItems`) are looked at, and a pair of schema and arguments so
large that the check could hold up other runs is let through to the tool, which checks for itself.

Source: JSON Schema 2020-12, validation vocabulary. Deviations: `oneOf` is read as `anyOf`; OpenAPI
3.0's `nullable` counts; 5.0 is no integer, but is converted to one.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from pydantic import JsonValue

Schema = Mapping[str, JsonValue]

_MAX_PROBLEMS: Final = 5
_MAX_SHOWN_CHARS: Final = 80
_MAX_WORK: Final = 2**14  # subschemas times values; 5 us each, so 80 ms when both are hostile
_EXACT_FLOAT: Final = 2**53  # integers up to here have a float of their own
_PLAIN: Final = frozenset(
    {"type", "enum", "const", "required", "minimum", "maximum", "exclusiveMinimum"}
    | {"exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"}
)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,2})?", re.ASCII)


class Checked(NamedTuple):
    """Arguments after the check."""

    fields: dict[str, JsonValue]
    is_converted: bool = False
    """Some value was brought into its declared type without loss."""
    problem: str = ""
    """What is wrong, for the model to read; empty when nothing is."""


class SchemaCheck:
    """One function's compiled schema. Never raises for what schema or arguments hold."""

    def __init__(self, schema_text: str) -> None:
        """Compile a function's parameters, given as JSON text; a broken schema checks nothing."""
        self._n_subschemas = schema_text.count("{")
        self._schema: dict[str, JsonValue] = {}
        try:
            schema = _pruned(json.loads(schema_text))
            Draft202012Validator.check_schema(schema)
        except (SchemaError, ValueError, RecursionError):
            schema = {}
        if isinstance(schema, dict):
            self._schema = schema
        self._validator = _Validator(self._schema)
        self._plain = _plain_types(self._schema)

    def check(self, fields: dict[str, JsonValue]) -> Checked:
        """Check arguments, converting values that fit without loss."""
        if self._is_plainly_right(fields):
            return Checked(fields)
        if not self._schema or not _is_small(fields, _MAX_WORK // self._n_subschemas):
            return Checked(fields)
        try:
            if self._validator.is_valid(fields):
                return Checked(fields)
            converted = self._converted(fields)
            problems = list(islice(self._problems(converted), _MAX_PROBLEMS))
        except RecursionError:
            return Checked(fields)
        if problems:
            return Checked(fields, problem="; ".join(problems))
        return Checked(converted, is_converted=True)

    def _is_plainly_right(self, fields: dict[str, JsonValue]) -> bool:
        """Whether every argument has the one type that its schema asks for: most calls, in 1 us."""
        required, plain = self._schema.get("required"), self._plain
        if plain is None:
            return False
        return all(type(value) in plain.get(name, ()) for name, value in fields.items()) and (
            not isinstance(required, list) or all(name in fields for name in required)
        )

    def _properties(self) -> dict[str, JsonValue]:
        properties = self._schema.get("properties")
        return properties if isinstance(properties, dict) else {}

    def _converted(self, fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """The arguments, each in its declared type where that is the same value.

        A `null` for an optional parameter that knows none means that it was left out.
        """
        properties, required = self._properties(), self._schema.get("required")
        found: dict[str, JsonValue] = {}
        for name, value in fields.items():
            declared = properties.get(name)
            if not isinstance(declared, dict) or self._validator.evolve(schema=declared).is_valid(
                value
            ):
                found[name] = value
            elif value is not None or (isinstance(required, list) and name in required):
                found[name] = _convert(value, declared.get("type"))
        return found

    def _problems(self, fields: dict[str, JsonValue]) -> Iterator[str]:
        for error in self._validator.iter_errors(fields):
            yield self._told(error)

    def _told(self, error: ValidationError) -> str:
        where = ".".join(str(part) for part in error.absolute_path)[:_MAX_SHOWN_CHARS]
        inside = f" in {where!r}" if where else ""
        match error.validator:
            case "required":
                return _missing(error, inside)
            case "additionalProperties" if error.validator_value is False:
                return _unknown(error, inside)
            case "type":
                return f"{where!r} must be {_kinds(error.validator_value)}, not {_shown(error)}"
            case "enum":
                allowed = _shown_value(error.validator_value)
                return f"{where!r} must be one of {allowed}, not {_shown(error)}"
            case "anyOf":
                return f"{where!r} must not be {_shown(error)}: {_alternatives(error)}"
            case keyword:
                limit = _shown_value(error.validator_value)
                return f"{where!r} is {_shown(error)}, which {keyword} {limit} forbids"


def schema_check(parameters: Schema) -> SchemaCheck:
    """The check for a function's parameters; compiled once per schema in the whole process."""
    return _compiled(json.dumps(parameters))


@lru_cache(maxsize=4096)
def _compiled(schema_text: str) -> SchemaCheck:
    return SchemaCheck(schema_text)


_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _plain_types(schema: dict[str, JsonValue]) -> dict[str, tuple[type, ...]] | None:
    """Python types of the properties that demand a type and nothing else.

    `None` where more than properties, required names and closedness is demanded.
    """
    properties = schema.get("properties")
    if schema.keys() - {"type", "properties", "required", "additionalProperties"}:
        return None
    if schema.get("type", "object") != "object" or not isinstance(properties, dict):
        return None
    return {
        name: _PYTHON_TYPES.get(str(child["type"]), ())
        for name, child in properties.items()
        if isinstance(child, dict) and child.keys() == {"type"}
    }


def _is_small(value: JsonValue, n_values: int) -> bool:
    """Whether there are at most so many values in it, at all levels."""
    unseen = [value]
    while unseen and n_values >= 0:
        value = unseen.pop()
        n_values -= 1
        if isinstance(value, dict):
            unseen.extend(value.values())
        elif isinstance(value, list):
            unseen.extend(value)
    return n_values >= 0


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _pruned(schema: JsonValue) -> JsonValue:
    """The schema without keywords that are not checked."""
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key in _PLAIN}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        kept["properties"] = {name: _pruned(child) for name, child in properties.items()}
    if "items" in schema:
        kept["items"] = _pruned(schema["items"])
    if "additionalProperties" in schema and "patternProperties" not in schema:
        kept["additionalProperties"] = _pruned(schema["additionalProperties"])
    if isinstance(schema.get("allOf"), list):
        kept["allOf"] = [_pruned(child) for child in _list(schema["allOf"])]
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(alternatives, list):
        kept["anyOf"] = [_pruned(child) for child in alternatives]
    if schema.get("nullable") is True:
        return {"anyOf": [{"type": "null"}, kept]}
    return kept


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _convert(value: JsonValue, declared: JsonValue) -> JsonValue:
    """The same value in the declared type; the value itself when that would lose something."""
    match declared, value:
        case "string", bool() | int() | float():
            return json.dumps(value)
        case "integer", float() if value.is_integer() and abs(value) <= _EXACT_FLOAT:
            return int(value)
        case "integer", str() if _INTEGER.fullmatch(value.strip()):
            return int(value)
        case "number", str() if _NUMBER.fullmatch(value.strip()):
            number: JsonValue = json.loads(value)
            return number
        case "boolean", str() if value.strip().lower() in {"true", "false"}:
            return value.strip().lower() == "true"
        case (("array" | "object"), str()):
            return _nested(value, list if declared == "array" else dict)
    return value


def _nested(text: str, kind: type) -> JsonValue:
    """A list or object that was written as text."""
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, kind) else text


def _missing(error: ValidationError, inside: str) -> str:
    name = next((name for name in _list(error.validator_value) if name not in error.instance), "?")
    declared = (error.schema.get("properties") or {}).get(name)
    kind = declared.get("type") if isinstance(declared, dict) else None
    return f"{str(name)!r} is missing{inside}" + (f", it must be {_kinds(kind)}" if kind else "")


def _unknown(error: ValidationError, inside: str) -> str:
    known = list(error.schema.get("properties") or {})
    extra = [name for name in error.instance if name not in known]
    near = [match for name in extra[:3] for match in _near(name, known)]
    shown = ", ".join(repr(name[:_MAX_SHOWN_CHARS]) for name in extra[:3])
    takes = f"it takes {', '.join(known[:20])}" if known else "it takes no parameters"
    meant = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else takes
    return f"there is no parameter {shown}{inside}; {meant}"


def _near(name: str, known: list[str]) -> list[str]:
    return difflib.get_close_matches(name[:_MAX_SHOWN_CHARS].lower(), known[:100], n=1)


def _alternatives(error: ValidationError) -> str:
    kinds = [
        _kinds(branch["type"])
        for branch in _list(error.validator_value)
        if isinstance(branch, dict) and "type" in branch
    ]
    return f"it must be {' or '.join(dict.fromkeys(kinds))}" if kinds else "it fits no alternative"


def _kinds(declared: JsonValue) -> str:
    kinds = declared if isinstance(declared, list) else [declared]
    return " or ".join(_ARTICLES.get(str(kind), str(kind)) for kind in kinds)


_ARTICLES: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _shown(error: ValidationError) -> str:
    return _shown_value(error.instance)


def _shown_value(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."
