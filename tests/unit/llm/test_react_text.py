"""Reading ReAct text: the published vectors, broken text, any split."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.llm import Message
from services.llm.dialects.react_text import ReactTextParser, ReferenceReactParser

STEP = 'Thought: hi\nAction: foo_for_bar\nAction Input: {"a":1}'


def read(*pieces: str) -> Message:
    parser = ReactTextParser(call_id="call_0")
    for piece in pieces:
        parser.feed(piece)
    return parser.message()


def parts(message: Message) -> tuple[str | None, str, str]:
    (call,) = message.tool_calls
    return message.content, call.name, call.arguments


@pytest.mark.parametrize(
    ("text", "thought", "name", "arguments"),
    [
        (STEP, "hi", "foo_for_bar", '{"a":1}'),
        ("Thought:\nAction: Finish\nAction Input: {}", "", "Finish", "{}"),
        ("Action: foo\nAction Input: {}", "foo\nAction Input: {", "foo", "{}"),
        ("just text", "", "x", ""),
        ("Thought: x\nAction: foo", "x", "fo", "tion: foo"),
        ("", "", "", ""),
        (f"{STEP}\n{STEP}", "hi", "foo_for_bar", f'{{"a":1}}\n{STEP}'),
    ],
)
def test_the_reference_parser_gives_the_published_vectors(
    text: str, thought: str, name: str, arguments: str
) -> None:
    parser = ReferenceReactParser(call_id="call_0")
    for char in text:
        parser.feed(char)
    assert parts(parser.message()) == (thought, name, arguments)
    assert not parser.is_complete


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STEP, ("hi", "foo_for_bar", '{"a":1}')),
        ("Thought:\nAction: Finish\nAction Input: {}", ("", "Finish", "{}")),
        ("Action: foo\nAction Input: {}", ("", "foo", "{}")),
        ("\nThought: hi\nAction: f\nAction Input:{}", ("hi", "f", "{}")),
        ("Thought: a\nAction: f\nAction Input: plain text ", ("a", "f", "plain text")),
        ("Thought: a\nAction: f\nAction Input:", ("a", "f", "")),
        ('Thought: a\nAction: f\nAction Input: {"q": "cut', ("a", "f", '{"q": "cut')),
        ("Thought: a\nAction: no\nAction: f\nAction Input: {}", ("a\nAction: no", "f", "{}")),
        (f"{STEP}</s>", ("hi", "foo_for_bar", '{"a":1}')),
    ],
)
def test_well_formed_and_cut_steps_give_a_call(text: str, expected: tuple[str, str, str]) -> None:
    assert parts(read(text)) == expected


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("just text", "just text"),
        ("", ""),
        ("Thought: x", "x"),
        ("Thought: x\nAction: foo", "x\nAction: foo"),
        ("Thought: x\nAction:\nAction Input: {}", "x\nAction:\nAction Input: {}"),
        ("Thought: x\nAction: a\nb\nAction Input: {}", "x\nAction: a\nb\nAction Input: {}"),
        ("Thought: done</s>Action: f", "done"),
    ],
)
def test_malformed_text_is_a_thought_and_no_garbage_call(text: str, content: str) -> None:
    assert read(text) == Message(role="assistant", content=content)


@pytest.mark.parametrize(
    "after", ["\nThought: more", "\nObservation: {}", "</s>", f"\n{STEP}", " and so on"]
)
def test_what_follows_the_json_is_ignored(after: str) -> None:
    assert parts(read(STEP + after)) == ("hi", "foo_for_bar", '{"a":1}')


def test_an_imagined_next_turn_ends_unfinished_arguments() -> None:
    text = 'Thought: a\nAction: f\nAction Input: {"q": "cut\nFunction: {"error": ""}'
    assert parts(read(text)) == ("a", "f", '{"q": "cut')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thought: a\naction: f\naction input: {}", ("a", "f", "{}")),
        ("**Thought:** a\n**Action:** f\n**Action Input:** {}", ("a", "f", "{}")),
        ("Thought : a\nAction : f\nAction_Input : {}", ("a", "f", "{}")),
        ("Thought: a\n  Action: `f`\nAction Input: {}", ("a", "f", "{}")),
        ('Thought: a\nAction: f\nAction Input: ```json\n{"q": 1}\n```', ("a", "f", '{"q": 1}')),
        ("Thought: a\nAction: f\nAction Input: {'q': '}'}\nmore", ("a", "f", "{'q': '}'}")),
        ('Thought: a\nAction: f\nAction Input: {"q": "it\'s {"}', ("a", "f", '{"q": "it\'s {"}')),
    ],
)
def test_other_spellings_of_a_step_are_read(text: str, expected: tuple[str, str, str]) -> None:
    assert parts(read(text)) == expected
    assert parts(read(*text)) == expected


def test_an_imagined_observation_is_no_part_of_a_thought() -> None:
    assert read("Thought: x\nObservation: {}\nThought: y").content == "x"


def test_the_end_of_the_json_completes_the_reply() -> None:
    parser = ReactTextParser(call_id="call_0")
    parser.feed('Thought: a\nAction: f\nAction Input: {"q": "}\\"", "r": [{}]')
    assert not parser.is_complete
    parser.feed("}")
    assert parser.is_complete


SPELLINGS = ["**Thought:** ", "\naction :", "\n**Action Input:** ", "```json\n", "{'", "'}", "'"]
MARKERS = [
    *SPELLINGS,
    "Thought:",
    "\nAction:",
    "\nAction Input:",
    "Action Input: {",
    "\nObservation:",
    "</s>",
]
ROUGH_TEXT = st.lists(
    st.one_of(
        st.sampled_from([*MARKERS, STEP, '{"', '"}', "}", "\\", '"', " ", "\n", "\nThought"]),
        st.text(max_size=6),
    ),
    max_size=12,
).map("".join)


@given(text=ROUGH_TEXT, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_split_gives_the_same_message(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert read(*pieces) == read(text) == read(*text)


@given(
    thought=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30),
    arguments=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4),
)
def test_a_written_step_is_read_back(thought: str, arguments: dict[str, str]) -> None:
    text = f"Thought: {thought}\nAction: f\nAction Input: {json.dumps(arguments)}"
    parser = ReactTextParser(call_id="call_0", end_text=None)
    parser.feed(text)
    (call,) = parser.message().tool_calls
    assert json.loads(call.arguments) == arguments
    assert parser.is_complete
