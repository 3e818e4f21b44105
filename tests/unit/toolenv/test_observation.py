"""Observations stay within their limit and never end inside a character or an escape."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.errors import Unavailable
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.observation import (
    MAX_CONTENT_BYTES,
    bounded,
    cut_escaped,
    overflowed,
    print_reply,
    shortened,
    succeeded,
)

AWKWARD = st.text(st.sampled_from('a"\\u/\n\t\x00é字😀\ud83d'), max_size=40)


@given(AWKWARD, st.integers(0, 300))
def test_a_cut_text_is_json_and_a_beginning_of_the_text(text: str, limit: int) -> None:
    cut = cut_escaped(text, limit)
    assert len(cut) <= limit
    assert cut.isascii()
    head = json.loads(f'"{cut}"')
    assert json.dumps(text)[1:-1].startswith(cut)
    assert text.startswith(head)


@given(AWKWARD, st.integers(12, 300))
def test_no_more_than_one_character_is_lost_to_the_cut(text: str, limit: int) -> None:
    cut = cut_escaped(text, limit)
    assert len(cut) > limit - 12 or cut == json.dumps(text)[1:-1]


def test_a_long_run_of_backslashes_is_cut_in_no_time() -> None:
    text = "\\" * 500_000 + "x"
    assert cut_escaped(text, 600_001) == "\\" * 600_000


def test_an_answer_within_the_limit_is_whole() -> None:
    response = "x" * (MAX_CONTENT_BYTES - len(print_reply("", "")))
    observation = succeeded(response, source="live", latency_s=0.1)
    assert observation.status is CallStatus.OK
    assert len(observation.content) == MAX_CONTENT_BYTES


def test_a_longer_answer_keeps_its_head_and_is_kept_whole() -> None:
    kept: list[bytes] = []

    def keep(content: bytes) -> str:
        kept.append(content)
        return "sha256:1234"

    response = {"text": "é" * MAX_CONTENT_BYTES}
    observation = succeeded(response, source="live", latency_s=0.1, keep=keep)
    assert observation.status is CallStatus.OUTPUT_LIMIT
    assert observation.overflow_ref == "sha256:1234"
    assert json.loads(kept[0]) == response
    assert MAX_CONTENT_BYTES - 12 <= len(observation.content) <= MAX_CONTENT_BYTES
    reply = json.loads(observation.content)
    assert list(reply) == ["error", "response"]
    assert kept[0].decode().startswith(reply["response"])
    assert "limit of 1048576 bytes; all of it is kept as sha256:1234" in reply["error"]


def test_an_answer_that_cannot_be_kept_says_why() -> None:
    def keep(_: bytes) -> str:
        raise Unavailable("the disk is full")

    content = print_reply("", "y" * MAX_CONTENT_BYTES)
    observation = bounded(CallStatus.OK, content, source="live", latency_s=0.0, keep=keep)
    assert observation.overflow_ref is None
    assert "the disk is full" in json.loads(observation.content)["error"]


def test_the_head_of_a_streamed_answer_is_shown() -> None:
    observation = overflowed(
        "[1, 2", total_bytes=52_428_800, source="live", latency_s=1.0, upstream_status=200
    )
    assert observation.upstream_status == 200
    reply = json.loads(observation.content)
    assert reply["response"] == "[1, 2"
    assert "52428800 bytes" in reply["error"]


def test_a_shortened_answer_keeps_its_outcome_and_ends_with_dots() -> None:
    content = print_reply("", {"rows": ["😀"] * 5000})
    whole = Observation(status=CallStatus.OK, content=content, source="live")
    short = shortened(whole, limit_bytes=2048, keep=lambda _: "sha256:5678")
    assert short.status is CallStatus.OK
    assert len(short.content) <= 2048
    assert json.loads(short.content)["response"].endswith("...")
    assert short.overflow_ref == "sha256:5678"
    assert shortened(whole, limit_bytes=len(content)) is whole


def test_a_limit_too_small_to_say_anything_is_refused() -> None:
    whole = Observation(status=CallStatus.OK, content="{}", source="live")
    with pytest.raises(ValueError, match="limit_bytes=10 is less than 1024"):
        shortened(whole, limit_bytes=10)
