"""What may be copied: words and numbers of instructions and results."""

import json

import pytest

from services.contracts.llm import Message
from services.llm.engines.sources import json_numbers, number_texts, source_texts, span_text


def result(response: object) -> Message:
    return Message(role="tool", content=json.dumps({"error": "", "response": response}))


def test_the_newest_texts_come_first_and_other_roles_are_left_out() -> None:
    messages = [
        Message(role="system", content="rules"),
        Message(role="user", content=" question "),
        Message(role="assistant", content="thought"),
        result("Oslo"),
    ]
    assert source_texts(messages) == ["Oslo", "question"]


@pytest.mark.parametrize(
    "response",
    [
        {"city": "Oslo", "km": 12.50, "open": True, "none": None},
        "{'city': 'Oslo', 'km': 12.50, 'open': True, 'none': None}",
        '{"city": "Oslo", "km": 12.5}',
        [["Oslo"], {"a": {"b": 12.5}}],
    ],
)
def test_a_result_gives_its_values_however_they_are_spelled(response: object) -> None:
    assert source_texts([result(response)]) == ["Oslo", "12.5"]


@pytest.mark.parametrize("content", ['{"error": "", "resp', "[" * 5000, "{'a': " * 3000, "{1: ["])
def test_a_broken_result_is_taken_as_text(content: str) -> None:
    assert source_texts([Message(role="tool", content=content)]) == [content[:8192].rstrip()]


def test_a_flood_of_results_is_bounded() -> None:
    texts = source_texts([result(f"{n} " + "x" * 3000) for n in range(20)])
    assert sum(map(len, texts)) <= 8192
    assert texts[0].startswith("19 ")


def test_spans_start_and_end_at_words_and_marks() -> None:
    text = span_text(["go to #A1, New York"])
    starts = {text.data[at : at + 4] for at in text.starts}
    ends = {text.data[max(at - 2, 0) : at] for at in text.ends}
    assert starts == {b"go t", b"to #", b"#A1,", b"A1, ", b"New ", b"York"}
    assert ends == {b"go", b"to", b" #", b"A1", b"1,", b"ew", b"rk"}


def test_text_is_escaped_as_in_json() -> None:
    assert span_text(['a "b"\\']).data == b'a \\"b\\"\\\\\x00'
    assert span_text(["é"]).data == b"\\u00e9\x00" + "é".encode() + b"\x00"


def test_numbers_keep_their_spelling_and_gain_the_equal_one() -> None:
    found = number_texts(["12.50 on 2024-05-01, H2O, 7.0"])
    assert found == {"12.50", "12.5", "2024", "05", "01", "2", "7.0", "7"}


def test_json_numbers_are_valid_json_of_either_sign() -> None:
    numbers = json_numbers(frozenset(["05", "1.2.3", "0", "4.50"]))
    assert numbers == {"5", "-5", "0", "-0", "4.50", "-4.50"}
    assert all(isinstance(json.loads(number), int | float) for number in numbers)
