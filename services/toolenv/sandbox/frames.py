"""Length-prefixed JSON frames between the host and one sandboxed worker.

Both sides use this module, and the host reads bytes that hostile tool code may have written, so
every way in which a frame can be wrong ends in `FrameError`. Standard library only: the file is
copied into the sandbox.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import NoReturn, TypeAlias

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"

MAX_DEPTH = (
    100  # nested arrays and objects; deeper values overflow the stack of whoever encodes them next
)
_HEADER = struct.Struct("<I")


class FrameError(ValueError):
    """A frame that is too long, not JSON, too deep, or not of the agreed shape."""


class FrameTooLong(FrameError):
    """The frame exceeds the limit of bytes."""


def encode_frame(message: Mapping[str, JsonValue], *, limit_bytes: int) -> bytes:
    """Render one message as header and body.

    Raises:
        FrameTooLong: The body exceeds `limit_bytes`.
        FrameError: The message holds NaN, a lone surrogate, something JSON lacks, or nests deeper
            than `MAX_DEPTH`.
    """
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = text.encode("utf-8")
        if _has_many_brackets(body):
            _check_depth(json.loads(text))
    except FrameError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from error
    if len(body) > limit_bytes:
        raise FrameTooLong(f"frame of {len(body)} bytes exceeds the limit of {limit_bytes} bytes")
    return _HEADER.pack(len(body)) + body


def decode_body(body: bytes) -> dict[str, JsonValue]:
    """Parse the body of one frame; its text is valid Unicode and its numbers are finite.

    Raises:
        FrameError: For anything else, including nesting beyond `MAX_DEPTH`.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\ud" in body or b"\\uD" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # refuses lone surrogates
    except (ValueError, RecursionError) as error:
        raise FrameError(
            f"frame is not JSON: {str(error)[:200] or type(error).__name__}"
        ) from error
    if not isinstance(value, dict):
        raise FrameError(f"frame is a {type(value).__name__}, not an object")
    if _has_many_brackets(body):
        _check_depth(value)
    return value


def _has_many_brackets(body: bytes) -> bool:
    """Whether the depth is worth measuring: few brackets cannot nest too deep."""
    return body.count(b"[") + body.count(b"{") > MAX_DEPTH


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:40]!r} is out of range")
    return number


def _check_depth(value: JsonValue) -> None:
    level: list[JsonValue] = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, (list, dict))]
        if not containers:
            return
        level = [
            child
            for item in containers
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    raise FrameError(f"frame is nested deeper than {MAX_DEPTH} levels")


class FrameBuffer:
    """Cuts a byte stream into messages; holds at most one frame and one read beyond it."""

    __slots__ = ("_bytes", "_limit_bytes")

    def __init__(self, *, limit_bytes: int) -> None:
        self._bytes = bytearray()
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> None:
        """Append bytes as they came from the socket."""
        self._bytes += data

    def pop(self) -> dict[str, JsonValue] | None:
        """The next message, or None while its bytes are incomplete.

        Raises:
            FrameTooLong: The length exceeds the limit, known from the header alone.
        FrameError: The body is not valid.
        """
        if len(self._bytes) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack_from(self._bytes)
        if length > self._limit_bytes:
            raise FrameTooLong(
                f"frame of {length} bytes exceeds the limit of {self._limit_bytes} bytes"
            )
        end = _HEADER.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[_HEADER.size : end])
        del self._bytes[:end]
        return decode_body(body)
