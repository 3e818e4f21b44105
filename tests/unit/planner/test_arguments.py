"""Argument text: what is mended, and that nothing is made up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.toolenv import MAX_ARGUMENTS_CHARS
from services.planner.arguments import read_arguments

MENDED = [
    ("{'city': 'Rome', 'days': 3}", {"city": "Rome", "days": 3}),
    ("{'t': \"it's\"}", {"t": "it's"}),
    ("{'0\\n': 1, 'b': {'a\\t': '}'}} is it", {"0\n": 1, "b": {"a\t": "}"}}),
    ("{“city”: “Rome”}", {"city": "Rome"}),
    ("{'a': True, 'b': False, 'c': None}", {"a": True, "b": False, "c": None}),
    ('{"a": 1', {"a": 1}),
    ('{"a": {"b": [1, 2', {"a": {"b": [1, 2]}}),
    ('{"city": "Rome', {"city": "Rome"}),
    ("{'city': 'Rome}", {"city": "Rome"}),
    ('{"a": 1,}', {"a": 1}),
    ('{"a": [1, 2,],}', {"a": [1, 2]}),
    ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
    ("{a: 1}", {"a": 1}),
    ('{"a": 1}}', {"a": 1}),
    ('{{"a": 1}}', {"a": 1}),
    ("{{'a': 1}}", {"a": 1}),
    ('```json\n{"a": 1}\n```', {"a": 1}),
    ('Here you are: {"a": 1}', {"a": 1}),
    ('{"a": 1}\nI hope this helps {really}.', {"a": 1}),
    ('{"a": 1}{"a": 1}', {"a": 1}),
    ('{"a": 1}\nAction: f\nAction Input: {"b": 2}', {"a": 1}),
    ("{'a': 1}\nAction: f\nAction Input: {'b': 2}", {"a": 1}),
    ('{"a": "x\nAction: f\nAction Input: {"b": 2}', {"a": "x"}),
    ('{"text": "two\nlines\tand\x01more"}', {"text": "two\nlines\tand\x01more"}),
    ("{'text': 'two\\nlines'}", {"text": "two\nlines"}),
    ('{"path": "C:\\path"}', {"path": "C:\\path"}),
    ("{'city': '天气', 'e': 'é\\u00e9'}", {"city": "天气", "e": "éé"}),
    ("{'price': 1.10, 'day': '2024-01-02',}", {"price": 1.1, "day": "2024-01-02"}),
    ('"{\\"a\\": 1}"', {"a": 1}),
    ("null", {}),
    ('{"q": "say "hi" now"}', {"q": 'say "hi" now'}),
]


@pytest.mark.parametrize(("text", "fields"), MENDED)
def test_broken_syntax_is_mended(text: str, fields: dict[str, object]) -> None:
    arguments = read_arguments(text)
    assert (arguments.fields, arguments.is_mended) == (fields, True)
    assert json.loads(arguments.text) == fields


@pytest.mark.parametrize(
    "text",
    [
        "just prose",
        "use {city} here",
        "{...}",
        "[1]",
        '[{"a": 1}]',
        "5",
        '{"a": }',
        '{"a": 1, "b":',
        '{"a": 1, "b"',
        '{"a": b}',
        '{"a": tru',
        '{"n": 5 apples}',
        '{"n": 1 2}',
        '{"a": 0x10}',
        '{"a": 1/2}',
        '{"zip": 01234}',
        '{"a": "b" + "c"}',
        "{'q': 'it's'}",
        '{"a": 1, "a": 2',
        '{"a": "x", // why\n "b": 2}',
        "{'0\\n': 1",
        "{'a\\n': {'b': 'a'}, 'b\\t\\n': 0",
        "{'a\\n': {'a': 1}",
        "{'a': 'it''s'}",
        "{" + "-" * 8_000 + "1: 1}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e400}',
        '{"a": "\\ud800"}',
        '{"a": "\ud800"}',
        "[" * 5_000,
        '{"a":' * 5_000,
        '{"a":' * 60 + "1",
        "9" * 5_000,
        '{"a": ' + "9" * 5_000,
        "\x00",
        "{'" + "a" * 20_000,
    ],
)
def test_what_would_have_to_be_made_up_stays_unread(text: str) -> None:
    arguments = read_arguments(text)
    assert arguments.fields is None
    assert (arguments.text, bool(arguments.problem)) == (text, True)


@pytest.mark.parametrize("text", ['{"a": 1}', " {} ", "", "\n", '{"a": {"b": [1e3, null]}}'])
def test_json_is_handed_on_as_it_was_written(text: str) -> None:
    arguments = read_arguments(text)
    assert (arguments.text, arguments.is_mended, arguments.is_whole) == (text, False, True)


def test_of_a_repeated_key_the_last_value_holds() -> None:
    assert read_arguments('{"a": 1, "a": 2}').fields == {"a": 2}


@pytest.mark.parametrize("text", ['{"a": 1', '{"a": "x', "{'a': 'Rome}"])
def test_an_object_whose_end_was_supplied_is_not_whole(text: str) -> None:
    assert not read_arguments(text).is_whole


def test_endless_arguments_are_not_read() -> None:
    arguments = read_arguments('{"a": "' + "x" * MAX_ARGUMENTS_CHARS + '"}')
    assert arguments.fields is None
    assert str(MAX_ARGUMENTS_CHARS) in arguments.problem


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)
MARKS = st.text(alphabet="0a \n\t'\",:{}[]\\-.é", max_size=4)  # what repair might drop or move


@given(OBJECTS, st.text(max_size=20))
def test_an_object_with_prose_around_it_is_found(fields: dict[str, object], after: str) -> None:
    text = f"Sure: {json.dumps(fields)} {after}"
    assert read_arguments(text).fields == fields


@given(OBJECTS | st.dictionaries(MARKS, VALUES | MARKS, max_size=4))
def test_pythons_spelling_is_read_or_refused_but_never_changed(fields: dict[str, object]) -> None:
    read = read_arguments(repr(fields)).fields
    assert read is None or read == fields


PIECES = st.sampled_from(
    [
        *"{}[]():,'\"\\\n `“#/+-.0e",
        "a",
        "b1",
        "-3.5",
        "true",
        "None",
        "\\u00e9",
        "\\ud800",
        "//",
        "```",
    ]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    arguments = read_arguments(text)
    again = read_arguments(arguments.text)
    assert again.fields == arguments.fields
    assert not (arguments.is_mended and again.is_mended)
