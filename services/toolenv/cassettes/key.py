"""Content address of a call: SHA-256 over the canonical JSON of (category, tool, api, arguments).

Canonical JSON is RFC 8785 (sorted keys, no white space, shortest number form), so neither key order
nor white space nor number spelling (`1`, `1.0`, `1e0`) matters. One deviation: RFC 8785 rounds
integers beyond 2**53 to a double; here every integer, however spelled, is written with all its
digits, so that two different identifiers never share a recording. Text is taken as it is: `é` as
one character and as two are different arguments, because an API may tell them apart.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import rfc8785
from pydantic import JsonValue

from services.contracts.apis import ApiRef

KEY_CHARS: Final = 64
_SMALLEST_PLAIN = 1e-4  # Python writes smaller fractions as 1e-05, RFC 8785 down to 1e-6 as 0.00001
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


def call_key(ref: ApiRef, arguments: Mapping[str, JsonValue]) -> str:
    """The key, 64 lower-case hexadecimal digits.

    Args:
        ref: The API, in standard form.
        arguments: JSON values without NaN or infinities, printable as UTF-8.
    """
    return key_of(ref.category, ref.tool, ref.api, canonical(arguments))


def key_of(category: str, tool: str, api: str, arguments: bytes) -> str:
    """The key of a call whose arguments are in canonical form already."""
    return hashlib.sha256(b"%s,%s]" % (_address(category, tool, api), arguments)).hexdigest()


@lru_cache(maxsize=4096)
def _address(category: str, tool: str, api: str) -> bytes:
    """The canonical list of all that is hashed, up to the arguments."""
    return canonical([category, tool, api])[:-1]


def canonical(value: object) -> bytes:
    """Canonical form of a JSON value, UTF-8.

    Raises:
        ValueError: A number is NaN or infinite, or a text holds half a surrogate pair.
        TypeError: The value is none of JSON's.
    """
    if _is_plain(value):
        try:
            return _encode(value).encode()
        except RecursionError:
            pass  # the other way needs no stack
    return _spelled_out(value)


def _is_plain(value: object) -> bool:
    """Whether the standard encoder writes RFC 8785, five times as fast as Python code does."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind is str or kind is int or kind is bool or item is None:
            continue
        if kind is dict:
            if not all(type(name) is str and name.isascii() for name in item):  # type: ignore[attr-defined]  # a dict
                return False  # RFC 8785 sorts by UTF-16 units, Python by characters
            waiting += item.values()  # type: ignore[attr-defined]  # a dict
        elif kind is list:
            waiting += item  # type: ignore[arg-type]  # a list
        elif kind is not float or item.is_integer() or abs(item) < _SMALLEST_PLAIN:  # type: ignore[attr-defined, arg-type]  # a float
            return False
    return True


def _spelled_out(value: object) -> bytes:
    """The canonical form of any JSON value, without recursion: arguments may be deeply nested."""
    written: list[bytes] = []
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, bytes):  # punctuation and names, ready to be written
            written.append(item)
        elif isinstance(item, Mapping):
            waiting += reversed(_members(item))
        elif isinstance(item, list | tuple):
            waiting += reversed(_elements(item))
        else:
            written.append(_scalar(item))
    return b"".join(written)


def _members(item: Mapping[str, object]) -> list[object]:
    parts: list[object] = [b"{"]
    for name in sorted(item, key=_utf16):
        parts += [b"," if len(parts) > 1 else b"", rfc8785.dumps(name) + b":", item[name]]
    return [*parts, b"}"]


def _elements(items: list[object] | tuple[object, ...]) -> list[object]:
    parts: list[object] = [b"["]
    for item in items:
        parts += [b"," if len(parts) > 1 else b"", item]
    return [*parts, b"]"]


def _utf16(name: str) -> bytes:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} names a member of an object; JSON has only text for that")
    return name.encode("utf-16-be")


def _scalar(item: object) -> bytes:
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if isinstance(item, int) and not isinstance(item, bool):
        return b"%d" % item
    if item is None or isinstance(item, bool | float | str):
        return rfc8785.dumps(item)
    raise TypeError(f"{type(item).__name__} is no JSON value")
