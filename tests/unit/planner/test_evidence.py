"""Results as values in later arguments."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from services.contracts.toolenv import CallStatus
from services.planner.actions import Outcome
from services.planner.search.evidence import MAX_VALUE_CHARS, EvidenceError, filled
from services.planner.search.plans import COMPILER, REWOO


def outcome(response: JsonValue, status: CallStatus = CallStatus.OK) -> Outcome:
    return Outcome(json.dumps({"error": "", "response": response}), status)


def put(text: str, response: JsonValue) -> JsonValue:
    return filled(text, REWOO.reference, {1: outcome(response)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#E1", {"a": [{"n": 3}], "t": "x"}),
        ("#E1.a[0].n", 3),
        (" #E1.t ", "x"),
        ("n is #E1.a[0].n, t is #E1.t", "n is 3, t is x"),
        ("#E1.a and #E2", '[{"n": 3}] and #E2'),
        ("#E12", "#E12"),
    ],
)
def test_a_whole_reference_keeps_the_type(text: str, expected: JsonValue) -> None:
    assert put(text, {"a": [{"n": 3}], "t": "x"}) == expected


def test_an_answer_without_an_envelope_is_taken_as_it_is() -> None:
    assert filled("$1", COMPILER.reference, {1: Outcome("plain", CallStatus.OK)}) == "plain"


def test_a_field_of_json_inside_a_text_is_found() -> None:
    assert put("#E1.n", '{"n": 5}') == 5
    assert put("#E1", '{"n": 5}') == '{"n": 5}'


@pytest.mark.parametrize(
    ("text", "response", "why"),
    [
        ("#E1.b", {"a": 1}, "#E1.b is missing: the result has no .b"),
        ("#E1[1]", [1], "#E1[1] is missing: the result has no [1]"),
        ("#E1.length", "text", "the result has no .length"),
        ("#E1", "x" * (MAX_VALUE_CHARS + 1), "has more than 8192 characters"),
    ],
)
def test_what_is_not_there_says_so(text: str, response: JsonValue, why: str) -> None:
    with pytest.raises(EvidenceError, match=re.escape(why)):
        put(text, response)


def test_an_error_is_no_evidence() -> None:
    failed = {1: outcome("", CallStatus.TIMEOUT)}
    with pytest.raises(EvidenceError, match="that call ended with timeout"):
        filled({"x": ["#E1"]}, REWOO.reference, failed)


@given(st.text())
def test_a_result_stays_inside_its_argument(response: str) -> None:
    arguments: JsonValue = {"x": "<#E1>", "#E1": 1}
    done = filled(arguments, REWOO.reference, {1: outcome(response)})
    assert done == {"x": f"<{response}>", "#E1": 1}
