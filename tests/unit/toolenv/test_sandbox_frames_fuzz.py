"""Whatever bytes a worker sends: messages or `FrameError`, in bounded memory and time."""

import json
import struct
import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.toolenv.sandbox.frames import (
    MAX_DEPTH,
    FrameBuffer,
    FrameError,
    FrameTooLong,
    decode_body,
    encode_frame,
)

LIMIT = 1 << 12
_EXAMPLES = 300

_JSON_PIECES = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00"),
        *(b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity", b"-", b"+", b"."),
        *(b"0", b"1", b"9" * 50, b"9" * 5000, b"1e5", b"1e999", b"-1e-999", b"0x10", b"1_0"),
        *(b'"t"', b'"result"', b'"t":"result"', b'{"t":', b"[[[[", b"]]]]", b"\xff", b"\xc0\xaf"),
        *(b"\x00", b" ", b"\n", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"/**/"),
    ]
)
_JSON_LIKE = st.lists(_JSON_PIECES, max_size=40).map(b"".join)
_BODY = st.one_of(
    st.binary(max_size=200),
    _JSON_LIKE,
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(max_size=80).map(lambda text: text.encode("utf-16")),
    _JSON_LIKE.map(lambda inner: b'{"t":' + inner + b"}"),
    st.integers(0, 3000).map(lambda depth: b'{"t":' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(0, 3000).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth),
    st.lists(st.sampled_from(["t", "a", ""]), max_size=30).map(
        lambda keys: ("{" + ",".join(f'"{key}":{n}' for n, key in enumerate(keys)) + "}").encode()
    ),
)
_LENGTH = st.one_of(
    st.integers(0, (1 << 32) - 1),
    st.integers(0, LIMIT + 2),
    st.sampled_from([0, 1, LIMIT, LIMIT + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]),
)
_HONEST_FRAME = _BODY.map(lambda body: struct.pack("<I", len(body)) + body)
_LYING_FRAME = st.tuples(_LENGTH, _BODY).map(lambda pair: struct.pack("<I", pair[0]) + pair[1])
_STREAM = st.lists(st.one_of(_HONEST_FRAME, _LYING_FRAME, st.binary(max_size=20)), max_size=6).map(
    b"".join
)


def _outcome(body: bytes) -> object:
    try:
        return decode_body(body)
    except FrameError as error:
        return type(error)


def _replay(stream: bytes, cuts: list[int]) -> list[object]:
    """All messages of a stream fed in pieces, and the error type that ended it, if one did."""
    buffer, seen, position = FrameBuffer(limit_bytes=LIMIT), [], 0
    for size in [*cuts, len(stream)]:
        buffer.feed(stream[position : position + size])
        position += size
        try:
            while (message := buffer.pop()) is not None:
                seen.append(message)
        except FrameError as error:
            return [*seen, type(error)]
    return seen


@settings(max_examples=_EXAMPLES)
@given(_STREAM, st.lists(st.integers(1, 60), max_size=60))
def test_any_stream_cut_anywhere_gives_the_same_messages_and_the_same_error(stream, cuts):
    assert _replay(stream, cuts) == _replay(stream, [])


@settings(max_examples=_EXAMPLES)
@given(_STREAM, st.lists(st.integers(1, 60), max_size=60))
def test_every_message_of_any_stream_is_an_object_that_can_be_sent_on(stream, cuts):
    for message in _replay(stream, cuts):
        is_end = isinstance(message, type) and issubclass(message, FrameError)
        assert is_end or decode_body(encode_frame(message, limit_bytes=LIMIT * 8)[4:]) == message


@settings(max_examples=_EXAMPLES)
@given(_BODY)
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":1e400}')
@example(b'{"a":-1e400}')
@example(b'{"a":NaN}')
@example(b'{"a":"\\ud83d\\ude00"}')
@example(b'{"a":"\\ude00\\ud83d"}')
@example(b'{"\\ud800":1}')
@example(b'{"a":' + b"9" * 4300 + b"}")
@example(b'{"a":' + b"9" * 4301 + b"}")
def test_what_a_body_decodes_to_is_strict_json(body):
    outcome = _outcome(body)
    is_refused = isinstance(outcome, type)
    text = "" if is_refused else json.dumps(outcome, allow_nan=False, ensure_ascii=False)
    assert is_refused or json.loads(text.encode("utf-8")) == outcome


@settings(max_examples=_EXAMPLES)
@given(st.integers(0, 3 * MAX_DEPTH), st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]))
def test_nesting_is_accepted_up_to_the_limit_and_no_further(depth, brackets):
    opening, closing = brackets
    inner = b"1" if opening != b"[" else b""
    body = b'{"v":' + opening * depth + (inner or b"1") + closing * depth + b"}"
    is_refused = isinstance(_outcome(body), type)
    assert is_refused == (depth + 1 > MAX_DEPTH)


@given(_LENGTH.filter(lambda length: length > LIMIT), st.binary(max_size=50))
def test_a_length_beyond_the_limit_is_refused_from_the_header_alone(length, rest):
    buffer = FrameBuffer(limit_bytes=LIMIT)
    buffer.feed(struct.pack("<I", length))
    with pytest.raises(FrameTooLong, match=rf"frame of {length} bytes exceeds .* {LIMIT} bytes"):
        buffer.pop()


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=20))
def test_of_duplicate_keys_the_last_one_counts(keys):
    body = "{" + ",".join(f'"{key}":{number}' for number, key in enumerate(keys)) + "}"
    last = {key: number for number, key in enumerate(keys)}
    assert decode_body(body.encode()) == last


_BIG = 2 << 20
_BOMBS = {
    "lists": b'{"v":[' + b"[]," * (_BIG // 3 - 10) + b"1]}",
    "objects": b'{"v":[' + b"{}," * (_BIG // 3 - 10) + b"1]}",
    "small objects": b'{"v":[' + b'{"a":0},' * (_BIG // 8 - 10) + b"1]}",
    "floats": b'{"v":[' + b"1e1," * (_BIG // 4 - 10) + b"1]}",
    "digits": b'{"v":[' + (b"9" * 4300 + b",") * (_BIG // 4301 - 1) + b"1]}",
    "one number": b'{"v":' + b"9" * (_BIG - 10) + b"}",
    "depth": b'{"v":' + b"[" * (_BIG - 10),
    "escapes": b'{"v":"' + b"\\u0041" * (_BIG // 6 - 10) + b'"}',
    "surrogates": b'{"v":"' + b"\\ud800" * (_BIG // 6 - 10) + b'"}',
    "keys": b"{" + b",".join(b'"%d":0' % n for n in range(_BIG // 12)) + b"}",
    # A regular expression for strings tries anew at each quote of a string that never ends.
    "escaped quotes": b'{"t":' + b"[]" * 101 + b'"' + b'\\"' * 16_000,
    "escaped backslashes": b'{"t":' + b"[]" * 101 + b'"' + b"\\" * 16_001,
    "quotes": b'{"v":[' + b'"",' * (_BIG // 3 - 10) + b"1]}",
    "brackets in text": b'{"v":"' + b"[" * (_BIG - 10) + b'"}',
    "brackets and a long text": b'{"v":["' + b"x" * (_BIG - 1000) + b'"' + b",[]" * 101 + b"]}",
    "text": b'{"v":"' + b"x" * (_BIG - 10) + b'"}',
    "wide text": b'{"v":"' + "\U0001f600".encode() * (_BIG // 4 - 10) + b'"}',
}
# A list of 56 bytes can come from 3 bytes of text; the host parses eight of them at once.
_MAX_MEMORY_BYTES = 32 << 20
_MAX_TIME_S = 0.25


@pytest.mark.parametrize("name", _BOMBS)
def test_a_body_of_two_megabytes_takes_bounded_memory(name):
    tracemalloc.start()
    try:
        _outcome(_BOMBS[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < _MAX_MEMORY_BYTES


@pytest.mark.parametrize("name", _BOMBS)
def test_a_body_of_two_megabytes_takes_bounded_time(name):
    """The event loop of the host stands still meanwhile."""
    started = time.thread_time()
    _outcome(_BOMBS[name])
    assert time.thread_time() - started < _MAX_TIME_S


def test_a_stream_without_end_is_never_held_beyond_one_frame_and_one_read():
    buffer = FrameBuffer(limit_bytes=LIMIT)
    tracemalloc.start()
    try:
        buffer.feed(struct.pack("<I", LIMIT))
        for _ in range(LIMIT - 1):
            buffer.feed(b"x")
            assert buffer.pop() is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * LIMIT + 4096
