"""Content address of a call: SHA-256 over the canonical JSON of (category, tool, api, arguments).

Canonical JSON is RFC 8785 (sorted keys, shortest number form), so key order, white space and number
spelling (`1`, `1.0`, `1e0`) do not matter; integers beyond 2**53, which that RFC excludes, are
written exactly.
"""

import hashlib
from collections.abc import Mapping

import rfc8785
from pydantic import JsonValue

from services.contracts.apis import ApiRef

_MAX_EXACT = 2**53 - 1


def call_key(ref: ApiRef, arguments: Mapping[str, JsonValue]) -> str:
    """The key, 64 lower-case hexadecimal digits.

    Args:
        ref: The API, in standard form.
        arguments: JSON values without NaN or infinities, printable as UTF-8.
    """
    return hashlib.sha256(canonical([ref.category, ref.tool, ref.api, arguments])).hexdigest()


def canonical(value: object) -> bytes:
    """RFC 8785 form of a JSON value."""
    return rfc8785.dumps(_exact(value))  # type: ignore[arg-type]  # JSON by contract


def _exact(value: object) -> object:
    """The value with every integer that RFC 8785 cannot hold written as tagged text."""
    if isinstance(value, Mapping):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    if isinstance(value, int) and abs(value) > _MAX_EXACT:
        return {"$integer": str(value)}
    return value
