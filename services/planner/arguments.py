"""Reads the text of a call's arguments, and mends it where only its syntax is broken.

Nothing is made up: a mended object says what the text says, word for word and number for number,
else the text counts as unreadable. Python, for its own spelling, or else `json_repair`
proposes, and `_is_faithful` decides; on its own the library would turn `{"city": }` into an empty
city and `{"n": 5 apples}` into 5.

Guarantees: never raises for what the text holds; takes time linear in its length, which is bounded.
"""

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, NoReturn

from json_repair import repair_json
from pydantic import JsonValue

from services.contracts.toolenv import MAX_ARGUMENTS_CHARS

_MAX_MENDED_CHARS: Final = 8_192  # mending takes up to 7 us a character of hostile text
_MAX_MENDED_LEVELS: Final = 50  # brackets that are open at once
_NEXT_TURN: Final = re.compile(r"\n[ \t]*(?:Thought|Action|Action Input|Observation):")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_MEANT: Final = {
    **{"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"},
    **{'"': '"', "'": "'", "\\": "\\", "/": "/"},
}
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"-?0\d", re.ASCII)
# Joined strings, and escapes that only Python or JavaScript has: `C:\apps` is as likely a path.
_NOT_JSON: Final = re.compile(r"[\"']\s*\+\s*[\"']|(?<!\\)(?:\\\\)*\\[xUN0-7av]")
_NOT_PYTHON: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[^\\\"'bfnrtu]")
_QUOTES: Final = "\"'`\u201c\u201d\u2018\u2019"
_MARK: Final = re.compile(r"\\.|\S", re.DOTALL)
_STRUCTURE: Final = re.compile(rf"[\s,:(){{}}\[\]\\{_QUOTES}]+")
_PLAIN_KEY: Final = re.compile(r"[\w.$-]+")
_BEFORE_KEY: Final = "{, \t\n\r"
_COLON: Final = re.compile(r"\s*:")
_OPENS_STRING: Final = "{[,:"
_CLOSERS: Final = re.compile(r"[\s\]}`]*\Z")


class Arguments(NamedTuple):
    """What a call's argument text says."""

    fields: dict[str, JsonValue] | None
    """`None` when it is no JSON object, even after mending."""
    text: str
    """As it is handed on: the model's own unless it was mended."""
    problem: str = ""
    """Why there are no fields, for the model to read."""
    is_mended: bool = False
    is_whole: bool = True
    """The object's end stood in the text; a cut-off text whose end was supplied is not whole."""


def read_arguments(text: str) -> Arguments:
    """Read a call's arguments; empty text is the empty object, as in the reference.

    Of a repeated key the last value holds, as everywhere in Python.
    """
    if len(text) > MAX_ARGUMENTS_CHARS:
        reason = f"the arguments have {len(text)} characters, more than {MAX_ARGUMENTS_CHARS}"
        return Arguments(None, text, reason)
    if not text.strip():
        return Arguments({}, text)
    try:
        value = _strictly(text)
    except RecursionError:
        return Arguments(None, text, "the arguments are nested too deeply")
    except ValueError as exc:
        return _mended(text) or Arguments(None, text, f"the arguments are not JSON: {exc}")
    if isinstance(value, dict):
        return Arguments(value, text)
    return _unwrapped(value) or Arguments(None, text, _not_an_object(value))


def written(fields: dict[str, JsonValue]) -> str:
    """The JSON text of arguments."""
    return json.dumps(fields, ensure_ascii=False)


def _not_an_object(value: JsonValue) -> str:
    kind = {list: "list", str: "string", bool: "boolean"}.get(type(value), "number")
    return f'the arguments must be a JSON object such as {{"name": 1}}, not a {kind}'


def _strictly(text: str) -> JsonValue:
    """The value of JSON text that every reader takes.

    Raises:
        ValueError: It is not JSON, or holds what cannot be written back (1e999, half a surrogate).
        RecursionError: It is nested too deeply.
    """
    value: JsonValue = _decoder.decode(text)
    _require_unicode(text, value)
    return value


def _require_unicode(text: str, value: JsonValue) -> None:
    if text.isascii() and "\\u" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise ValueError("a string holds half of a surrogate pair") from exc


def _unwrapped(value: JsonValue) -> Arguments | None:
    """`null` for no arguments, and an object that was made JSON text twice."""
    if value is None:
        return Arguments({}, "{}", is_mended=True)
    if not isinstance(value, str):
        return None
    try:
        inner = _strictly(value)
    except (ValueError, RecursionError):
        return None
    return Arguments(inner, value, is_mended=True) if isinstance(inner, dict) else None


def _mended(text: str) -> Arguments | None:
    start = text.find("{")
    if start < 0:
        return None  # prose
    try:
        whole = _leading_object(text, start)
        if whole is not None:
            return Arguments(whole, written(whole), is_mended=True)
        return _supplied(text[start:])
    except (ValueError, RecursionError):
        return None


def _leading_object(text: str, start: int) -> dict[str, JsonValue] | None:
    """The complete object that begins there, or inside a doubled brace; what follows is dropped.

    Raw line breaks and other control characters inside strings are taken as they are.
    """
    inner = start + 1 + len(text[start + 1 :]) - len(text[start + 1 :].lstrip())
    for at in (start, inner) if text[inner : inner + 1] == "{" else (start,):
        try:
            value, end = _lax_decoder.raw_decode(text, at)
        except ValueError:
            continue
        _require_unicode(text[at:end], value)
        return value if isinstance(value, dict) else None
    return None


def _supplied(text: str) -> Arguments | None:
    """The object in text whose quotes, commas or closing brackets are wrong or missing."""
    if len(text) > _MAX_MENDED_CHARS:
        return None
    source = _NEXT_TURN.split(text, maxsplit=1)[0]
    end = _balanced_end(source)
    source = source[:end] if end else source
    if max(source.count("["), source.count("{")) > _MAX_MENDED_LEVELS or _NOT_JSON.search(source):
        return None
    fields = _python_literal(source)
    if fields is None:
        fields = repair_json(source, return_objects=True, skip_json_loads=True)
    if not isinstance(fields, dict) or not _is_faithful(fields, _unescaped(source)):
        return None
    mended = written(fields)
    _require_unicode(source, fields)
    return Arguments(fields, mended, is_mended=True, is_whole=end > 0)


def _python_literal(text: str) -> JsonValue:
    """What a dict in Python's spelling says; `None` when it is none, or JSON cannot say the same.

    Python itself reads it, since `json_repair` guesses where a quote ends a string. Not where
    Python takes an escape sequence for something else than JSON.
    """
    if _NOT_PYTHON.search(text):
        return None
    try:
        value = ast.literal_eval(text)
        # Unequal for tuples and for keys that are no strings, which JSON would change.
        return value if json.loads(written(value)) == value else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _balanced_end(text: str) -> int:
    """Where the object at the text's beginning is closed; 0 when it is not.

    A quote opens a string only where one may stand, so that an apostrophe does not.
    """
    depth, quote, before = 0, "", ""
    for found in _MARK.finditer(text):
        mark = found[0]
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'" and before in _OPENS_STRING:
            quote = mark
        elif mark in "{[":
            depth += 1
        elif mark in "}]":
            depth -= 1
            if depth == 0:
                return found.end()
        before = mark
    return 0


def _is_faithful(fields: dict[str, JsonValue], source: str) -> bool:
    """Whether the object says what the text says: its words in order, its numbers, its strings."""
    leaves = list(_leaves(fields))
    told = " ".join(leaf if isinstance(leaf, str) else _literal(leaf) for leaf, _ in leaves)
    strings = [(leaf, is_value) for leaf, is_value in leaves if isinstance(leaf, str)]
    return (
        _words(told) == _words(source)
        and _numbers(told) == _numbers(source)
        and strings.count(("", True)) <= source.count('""') + source.count("''")
        and _stand_in_order([string for string in strings if string != ("", True)], source)
    )


def _leaves(value: JsonValue) -> Iterator[tuple[JsonValue, bool]]:
    """Keys and values in the order of the text; whether it is a value. At most a few levels."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield key, False
            yield from _leaves(child)
    elif isinstance(value, list):
        for child in value:
            yield from _leaves(child)
    else:
        yield value, True


def _literal(leaf: JsonValue) -> str:
    return json.dumps(leaf)


def _words(text: str) -> str:
    """All that is neither a number nor JSON's own punctuation."""
    return _STRUCTURE.sub("", _NUMBER.sub("", text)).lower().replace("none", "null")


def _numbers(text: str) -> list[tuple[float, bool]]:
    """The numbers in the text; 01234 is another one than 1234, say a postal code."""
    found: list[str] = _NUMBER.findall(text)
    return sorted((float(number), bool(_LEADING_ZERO.match(number))) for number in found)


def _stand_in_order(strings: Iterable[tuple[str, bool]], source: str) -> bool:
    """Whether each key and value (true) stands in the text, whole and behind the one before it."""
    at = 0
    for string, is_value in strings:
        stands = _is_value_at if is_value else _is_key_at
        at = source.find(string, at)
        while at >= 0 and not stands(string, source, at):
            at = source.find(string, at + 1)
        if at < 0:
            return False
        at += len(string)
    return True


def _is_value_at(value: str, source: str, at: int) -> bool:
    """Whether it is between quotes, or after one and nothing but closers follow."""
    end = at + len(value)
    if not at or source[at - 1] not in _QUOTES:
        return False
    if source[end : end + 1] in _QUOTES:  # so is the end of the text
        return True
    return value[-1] not in _QUOTES and _CLOSERS.match(source, end) is not None


def _is_key_at(key: str, source: str, at: int) -> bool:
    """Whether it is between quotes and before a colon; a plain key may lack either quote."""
    end = at + len(key)
    is_opened, is_closed = source[at - 1] in _QUOTES, source[end : end + 1] in _QUOTES
    if is_opened and is_closed:
        return key != "" and _COLON.match(source, end + 1) is not None
    if not _PLAIN_KEY.fullmatch(key):
        return False
    if is_opened:  # what follows it may be a part of the key, like a line break
        return source[end : end + 1] == ":"
    return source[at - 1] in _BEFORE_KEY and _COLON.match(source, end + is_closed) is not None


def _unescaped(text: str) -> str:
    """The text with the escape sequences of its strings replaced by what they mean."""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _MEANT.get(m[2], m[0]), text)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number[:40]} is too large")
    return value


# Made once: `json.loads` builds a new decoder per call when given options.
_decoder = json.JSONDecoder(parse_constant=_not_json, parse_float=_finite)
_lax_decoder = json.JSONDecoder(parse_constant=_not_json, parse_float=_finite, strict=False)
