"""The frame codec under honest and hostile input."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.toolenv.sandbox.frames import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    FrameBuffer,
    FrameError,
    FrameTooLong,
    decode_body,
    encode_frame,
)

LIMIT = 1 << 16

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)
_MESSAGES = st.dictionaries(_TEXT, _JSON, max_size=5)


def _drain(buffer: FrameBuffer) -> list[dict]:
    messages = []
    while (message := buffer.pop()) is not None:
        messages.append(message)
    return messages


@settings(deadline=None)
@given(st.lists(_MESSAGES, max_size=4), st.lists(st.integers(1, 50), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_messages(messages, sizes):
    stream = b"".join(encode_frame(message, limit_bytes=LIMIT) for message in messages)
    buffer = FrameBuffer(limit_bytes=LIMIT)
    received, position, turn = [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        buffer.feed(stream[position : position + size])
        received += _drain(buffer)
        position, turn = position + size, turn + 1
    assert received == messages


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_messages_or_a_frame_error(data):
    buffer = FrameBuffer(limit_bytes=256)
    buffer.feed(data)
    try:
        messages = _drain(buffer)
    except FrameError:
        return
    assert all(isinstance(message, dict) for message in messages)


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_an_arbitrary_body_gives_an_encodable_object_or_a_frame_error(body):
    try:
        message = decode_body(body)
    except FrameError:
        return
    assert decode_body(encode_frame(message, limit_bytes=LIMIT)[4:]) == message


@settings(deadline=None)
@given(_JSON)
def test_json_that_is_not_an_object_is_refused(value):
    body = json.dumps([value]).encode()
    with pytest.raises(FrameError, match="frame is a list, not an object"):
        decode_body(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"7",
        b'"text"',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\uDFFF"}',
        b'{"\\ud800":1}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xff\xfe{}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_wrong_is_refused(body):
    with pytest.raises(FrameError):
        decode_body(body)


def test_surrogate_pairs_are_ordinary_characters():
    assert decode_body(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_the_deepest_allowed_nesting_passes_both_ways():
    value: object = 1
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    frame = encode_frame({"a": value}, limit_bytes=LIMIT)
    assert decode_body(frame[4:]) == {"a": value}


def test_many_shallow_lists_are_not_mistaken_for_depth():
    message = {"a": [[] for _ in range(10 * MAX_DEPTH)]}
    assert decode_body(encode_frame(message, limit_bytes=LIMIT)[4:]) == message


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_arrive():
    buffer = FrameBuffer(limit_bytes=100)
    buffer.feed(struct.pack("<I", 101))
    with pytest.raises(FrameTooLong, match="101 bytes exceeds the limit of 100 bytes"):
        buffer.pop()


def test_a_message_longer_than_the_limit_is_not_sent():
    with pytest.raises(FrameTooLong, match="exceeds the limit of 10 bytes"):
        encode_frame({"a": "x" * 20}, limit_bytes=10)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", {1, 2}, b"x", object(), {(1, 2): 3}],
    ids=["nan", "inf", "surrogate", "set", "bytes", "object", "tuple-key"],
)
def test_a_value_that_is_not_json_is_not_sent(value):
    with pytest.raises(FrameError, match="not JSON"):
        encode_frame({"a": value}, limit_bytes=LIMIT)


def test_a_value_that_contains_itself_is_not_sent():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(FrameError, match="not JSON"):
        encode_frame({"a": loop}, limit_bytes=LIMIT)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"' + b"[" * 500 + b'"}',
        b'{"a":"' + b'[\\"{' * 200 + b'\\\\"}',
        b"{" + b",".join(b'"%d":"{[["' % n for n in range(200)) + b"}",
        b'{"a":[' + b'[""],["["],' * 200 + b"1]}",
    ],
)
def test_brackets_inside_texts_do_not_count_as_nesting(body):
    assert decode_body(body) == json.loads(body)


def test_a_frame_with_too_many_arrays_and_objects_is_refused_on_both_sides():
    value = [[] for _ in range(MAX_CONTAINERS)]
    with pytest.raises(FrameError, match=f"more than {MAX_CONTAINERS} arrays and objects"):
        encode_frame({"a": value}, limit_bytes=1 << 24)
    with pytest.raises(FrameError, match=f"more than {MAX_CONTAINERS} arrays and objects"):
        decode_body(json.dumps({"a": value}).encode())


def test_a_long_text_that_looks_like_huge_numbers_is_a_text():
    body = json.dumps({"a": '3e123 \\" 4E+999 ' * 5000, "b": 1e5}).encode()
    assert decode_body(body) == json.loads(body)


def test_few_numbers_may_be_huge_and_none_infinite():
    assert decode_body(b'{"a":[1e300,1E+200]}') == {"a": [1e300, 1e200]}
    with pytest.raises(FrameError, match="out of range"):
        decode_body(b'{"a":1e400}')
    with pytest.raises(FrameError, match="more than 1000 numbers"):
        decode_body(b'{"a":[' + b"1e200," * 1001 + b"1]}")
