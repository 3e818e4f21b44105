"""Lines of a journal: JSON objects whose last member is a checksum of the rest.

A process that is killed while it writes leaves a torn last line; a disk that lies leaves others.
Both are recognised, and what follows them is not trusted either.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pydantic import JsonValue

_CHECK: Final = ',"crc":"'
_CHECK_CHARS: Final = len(_CHECK) + 8 + len('"}')


class Line(NamedTuple):
    """One whole line."""

    value: dict[str, JsonValue]
    end: int
    """Bytes of the file up to and including this line."""


def sealed(body: str) -> bytes:
    """A line of the file.

    Args:
        body: A JSON object with at least one member, without line breaks.
    """
    data = body.encode("utf-8", "surrogatepass")
    return b'%s%s%08x"}\n' % (data[:-1], _CHECK.encode(), zlib.crc32(data))


def whole_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """The lines up to the first one that is torn or damaged."""
    end = 0
    for raw in lines:
        value = _opened(raw)
        if value is None:
            return
        end += len(raw)
        yield Line(value, end)


def _opened(raw: bytes) -> dict[str, JsonValue] | None:
    if not raw.endswith(b'"}\n') or len(raw) <= _CHECK_CHARS:
        return None
    data, check = raw[: -_CHECK_CHARS - 1] + b"}", raw[-_CHECK_CHARS - 1 : -1]
    if check != b'%s%08x"}' % (_CHECK.encode(), zlib.crc32(data)):
        return None
    try:
        value = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
