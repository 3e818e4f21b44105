"""Secrets in every spelling a server may choose."""

import base64
import html
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.toolenv.egress.redaction import Redactor
from services.toolenv.executors.http_reply import without_secrets

_SECRET = 'k3y/with+odd=chars&"more"_ü'


@pytest.mark.parametrize(
    "spelled",
    [
        _SECRET,
        _SECRET[::-1],
        quote(_SECRET),
        quote(_SECRET, safe=""),
        "".join(f"%{byte:02x}" for byte in _SECRET.encode()),
        _SECRET.encode().hex(),
        _SECRET.encode().hex().upper(),
        json.dumps(_SECRET),
        json.dumps(_SECRET, ensure_ascii=False),
        "".join(f"\\u{ord(char):04x}" for char in _SECRET),
        "".join(f"%{byte:02X}" for byte in _SECRET.encode()),
    ],
    ids=lambda text: text[:12],
)
def test_each_spelling_is_redacted(spelled):
    cleaned = Redactor([_SECRET]).in_text(f"before {spelled} after")
    assert "[redacted]" in cleaned
    assert spelled.strip('"') not in cleaned


@given(prefix=st.binary(max_size=7), suffix=st.binary(max_size=7), url_safe=st.booleans())
def test_base64_is_found_at_every_alignment(prefix, suffix, url_safe):
    secret = "canary-0123456789-canary"
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    encoded = encode(prefix + secret.encode() + suffix)
    cleaned = Redactor([secret]).in_bytes(encoded)
    assert b"[redacted]" in cleaned
    assert len(cleaned) - len(b"[redacted]") <= len(encoded) - 30  # 24 bytes are 32 characters


def test_a_secret_at_the_edge_of_another_leaves_no_rest():
    cleaned = Redactor(["token-1234", "token-1234-and-more"]).in_text("x token-1234-and-more y")
    assert cleaned == "x [redacted] y"


def test_headers_are_cleaned_in_names_and_values():
    redactor = Redactor(["s3cr3t-value"])
    assert redactor.in_headers([("X-s3cr3t-value", "1"), ("Location", "/?k=s3cr3t-value")]) == [
        ("X-[redacted]", "1"),
        ("Location", "/?k=[redacted]"),
    ]


def test_without_secrets_nothing_changes():
    assert Redactor([]).in_text("a \ud800 b") == "a \ud800 b"
    assert Redactor(["abc"]).in_text("abc is too short to look for") == (
        "abc is too short to look for"
    )


def test_a_megabyte_with_ten_secrets_is_searched_quickly():
    redactor = Redactor([f"secret-number-{number}-of-ten" for number in range(10)])
    data = json.dumps({"items": ["value %20 \\u00e4"] * 60_000}).encode()
    started = time.process_time()
    assert redactor.in_bytes(data) is data
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "spelled",
    [
        _SECRET.lower(),
        _SECRET.upper(),
        html.escape(_SECRET),
        html.escape(_SECRET, quote=False),
        repr(_SECRET.encode()),
        repr(_SECRET + "'"),
        quote(quote(_SECRET, safe=""), safe=""),
        base64.b32encode(_SECRET.encode()).decode(),
    ],
    ids=lambda text: text[:24],
)
def test_what_programs_make_of_a_secret_in_passing_is_redacted(spelled):
    assert "[redacted]" in Redactor([_SECRET]).in_text(f"before {spelled} after")


@pytest.mark.parametrize(
    "value", [_SECRET[::-1], json.dumps({"key": _SECRET}), {_SECRET[::-1]: [1]}, ["x", [_SECRET]]]
)
def test_a_secret_with_quotes_is_found_in_a_decoded_answer(value):
    cleaned = without_secrets({"said": value}, Redactor([_SECRET]))
    assert "[redacted]" in json.dumps(cleaned)


def test_an_answer_without_the_secret_is_the_same_object():
    value = {"a": [1, 2.5, None, True, {"b": "c"}]}
    assert without_secrets(value, Redactor([_SECRET])) is value
