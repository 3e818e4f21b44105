"""Length-prefixed JSON frames between the host and one sandboxed worker.

Both sides use this module, and the host reads bytes that hostile tool code may have written, so
every way in which a frame can be wrong ends in `FrameError`. Standard library only: the file is
copied into the sandbox.
"""

from __future__ import annotations

import gc
import json
import math
import re
import struct
from collections.abc import Mapping
from typing import NoReturn, TypeAlias

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"

MAX_DEPTH = (
    100  # nested arrays and objects; deeper values overflow the stack of whoever encodes them next
)
MAX_CONTAINERS = 100_000  # nested arrays and objects together: 3 bytes of text become 56 of memory
_HEADER = struct.Struct("<I")
# Without escapes inside. Possessive and content with a missing end, so that it never tries twice.
_STRING = re.compile(rb'"[^"]*+"?')
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")  # whether they match is the parser's business
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
# What may overflow to infinity; parsing such numbers one by one is slow, so few are allowed.
_HUGE_NUMBER = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{300}")
_MAX_HUGE_NUMBERS = 1000
_LARGE_CHARS = 1 << 16
_MAX_DEPTH_WORK = 3 << 20  # bytes looked at, level by level; some 10 ms


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
            _check_nesting(body)
    except FrameError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from error
    if len(body) > limit_bytes:
        raise FrameTooLong(f"frame of {len(body)} bytes exceeds the limit of {limit_bytes} bytes")
    return _HEADER.pack(len(body)) + body


def decode_body(body: bytes) -> dict[str, JsonValue]:
    """Parse the body of one frame; its text is valid Unicode and its numbers are finite.

    Every check runs in C over the bytes, because a hostile frame of 2 MB must not stop the host's
    event loop.

    Raises:
        FrameError: For anything else, including nesting beyond `MAX_DEPTH`.
    """
    try:
        if _has_many_brackets(body):
            _check_nesting(body)
        text = body.decode("utf-8")
        value = _parse(text, body)
        if b"\\ud" in body or b"\\uD" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # refuses lone surrogates
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError(
            f"frame is not JSON: {str(error)[:200] or type(error).__name__}"
        ) from error
    if not isinstance(value, dict):
        raise FrameError(f"frame is a {type(value).__name__}, not an object")
    return value


def _parse(text: str, body: bytes) -> object:
    huge = _HUGE_NUMBER.search(body)
    if huge and len(_HUGE_NUMBER.findall(body)) > _MAX_HUGE_NUMBERS:
        outside = _STRING.sub(b"", _unescaped(body))  # texts may hold what they like
        if len(_HUGE_NUMBER.findall(outside)) > _MAX_HUGE_NUMBERS:
            raise FrameError(f"frame holds more than {_MAX_HUGE_NUMBERS} numbers beyond 1e100")
    parse_float = _finite if huge else None
    if len(text) < _LARGE_CHARS:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=parse_float)
    was_enabled = gc.isenabled()
    gc.disable()  # a parser makes no garbage, and collecting doubles its time
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=parse_float)
    finally:
        if was_enabled:
            gc.enable()


def _unescaped(body: bytes) -> bytes:
    """Without backslashes and quotes that belong to texts."""
    return body.replace(b"\\\\", b"").replace(b'\\"', b"")


def _check_nesting(body: bytes) -> None:
    """Measure nesting without building anything: strip innermost pairs, level by level."""
    marks = _unescaped(body).translate(_AS_SQUARE, delete=_NO_MARKS).replace(b'""', b"")
    brackets = _STRING.sub(b"", marks)  # the rest of the strings are those with brackets inside
    if brackets.count(b"[") > MAX_CONTAINERS:
        raise FrameError(f"frame holds more than {MAX_CONTAINERS} arrays and objects")
    work = 0
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        work += len(brackets)
        if work > _MAX_DEPTH_WORK:
            raise FrameError(f"frame of {len(body)} bytes has too many brackets in deep levels")
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise FrameError(f"frame is nested deeper than {MAX_DEPTH} levels")


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


class FrameBuffer:
    """Cuts a byte stream into messages; holds at most one frame and one read beyond it."""

    __slots__ = ("_bytes", "_limit_bytes", "last_length")

    def __init__(self, *, limit_bytes: int) -> None:
        self._bytes = bytearray()
        self._limit_bytes = limit_bytes
        self.last_length = 0  # bytes of the body that `pop` returned last

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
        self.last_length = length
        body = bytes(self._bytes[_HEADER.size : end])
        del self._bytes[:end]
        return decode_body(body)
