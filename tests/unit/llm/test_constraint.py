"""Constrained decoding: what it allows parses, what is right is allowed."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.llm import ChatRequest, FunctionSchema, Message, MessageToolCall
from services.llm.dialects.react_text import ReactTextParser
from services.llm.engines.constraint import Constrain, Cursor, ReplyGrammar
from services.llm.engines.vocabulary import TokenVocabulary, ends_alphanumeric
from tests.unit.llm.conftest import CONVERT_ARGUMENTS, INSTRUCTION, convert_request, convert_tool

# 256 bytes, words with an implied space before them, and JSON runs that cross grammar elements.
_WORDS = ["miles", "kilometres", "Thought", "Convert", "the", "New", "York", "plain", "Action"]
_RUNS = ['{"', '": "', '", "', '"}', '": ', ', "', "\nAction: ", "\nAction Input: ", "Thought: "]
_RUNS += ["12", ".5", '!"', "convert_", "length", "give_answer", "return_type"]
_END = 0
_BYTES = [bytes([value]) for value in range(256)]
VOCABULARY = TokenVocabulary(
    pieces=[None, *_BYTES, *(w.encode() for w in _WORDS), *(r.encode() for r in _RUNS)],
    pieces_after_alphanumeric=[
        None,
        *_BYTES,
        *(f" {w}".encode() for w in _WORDS),
        *(r.encode() for r in _RUNS),
    ],
    end_ids=[_END],
)


def cursor_of(request: ChatRequest | None = None, constrain: Constrain = "values") -> Cursor:
    return Cursor(ReplyGrammar(request or convert_request(), constrain), VOCABULARY)


def rejected_at(text: str, cursor: Cursor) -> str | None:
    """What is left of `text` where byte by byte decoding is stopped; `None` when all is allowed."""
    data = text.encode()
    for index, byte in enumerate(data):
        allowed = cursor.allowed()
        if allowed is None or byte + 1 not in allowed:
            return data[index:].decode(errors="replace")
        cursor.accept(byte + 1)
    return None if _END in (cursor.allowed() or ()) else "(no end)"


def reply(arguments: str, *, name: str = "convert_length_for_unit_converter") -> str:
    return f"Thought: Convert it.\nAction: {name}\nAction Input: {arguments}"


def answer(text: str) -> str:
    arguments = json.dumps({"return_type": "give_answer", "final_answer": text})
    return reply(arguments, name="Finish")


@pytest.mark.parametrize("constrain", ["names", "values"])
@pytest.mark.parametrize(
    "text",
    [
        reply(CONVERT_ARGUMENTS),
        reply('{"value": -12.5, "from_unit": "São Paulo", "to_unit": "12.5 miles"}'),
        reply('{"value": 12.5, "from_unit": "S\\u00e3o", "to_unit": "\\"plain\\" words"}'),
        reply('{"value": 12.5, "from_unit": "it", "to_unit": "in", "precise": false}'),
        reply('{"value": "12.5", "from_unit": "miles", "to_unit": "kilometres"}'),
        reply(CONVERT_ARGUMENTS, name="convert_length_for_old_converter"),
        reply('{"return_type": "give_up_and_restart"}', name="Finish"),
        answer('12.5 miles are far. It is \u00e9 "quoted" 12.5.'),
        answer(""),
    ],
)
def test_right_replies_are_allowed(text: str, constrain: Constrain) -> None:
    assert rejected_at(text, cursor_of(constrain=constrain)) is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (reply("{}", name="convert_length_for_unknown"), "known\nAction Input: {}"),
        (reply("{}"), "}"),
        (reply('{"from_unit": "miles"}'), 'from_unit": "miles"}'),
        (reply('{"value": 13, "from'), '3, "from'),
        (reply('{"value": "miles"'), 'miles"'),
        (reply('{"value": 12.5, "from_unit": "parsecs"'), 'arsecs"'),
        (reply('{"value": 12.5, "from_unit": "iles"'), 'les"'),
        (reply('{"value": 12.5, "from_unit": "mil"'), '"'),
        (reply('{"value": 12.5, "from_unit": ""'), '"'),
        (reply(f'{CONVERT_ARGUMENTS[:-1]}, "precise": 1}}'), "1}"),
        (answer("It is 20.1."), '20.1."}'),
        (answer("It is 12."), '"}'),
        (answer("It is 12.5.5"), '5"}'),
        (answer("It is 12.55"), '5"}'),
        ("Thought: x\nFinal: y", "Final: y"),
        ("Hello", "Hello"),
    ],
)
def test_wrong_replies_stop_where_they_go_wrong(text: str, rest: str) -> None:
    assert rejected_at(text, cursor_of()) == rest


def test_values_come_from_results_too() -> None:
    result = json.dumps({"error": "", "response": '{"length": 20.1168, "place": "Bergen"}'})
    messages = (Message(role="user", content=INSTRUCTION), Message(role="tool", content=result))
    cursor = cursor_of(convert_request(messages=messages))
    assert rejected_at(answer("It is 20.1168 in Bergen."), cursor) is None


def test_enumerated_and_example_values_are_allowed() -> None:
    schema = {"type": "string", "enum": ["metric", "imperial"]}
    example = {"type": "string", "example_value": "json"}
    number = {"type": "integer", "example_value": "7"}
    tool = FunctionSchema(
        name="f",
        description="",
        parameters={
            "properties": {"a": schema, "b": example, "c": number},
            "required": ["", "a", "b", "c"],
        },
    )
    request = convert_request(tools=(tool,))
    text = reply('{"a": "imperial", "b": "json", "c": 7}', name="f")
    assert rejected_at(text, cursor_of(request)) is None
    assert rejected_at(reply('{"a": "miles"', name="f"), cursor_of(request)) == 'iles"'


@pytest.mark.parametrize("optional", [["precise"], ["value", "from_unit", "to_unit", "precise"]])
def test_optional_keys_may_be_left_out(optional: list[str]) -> None:
    tool = convert_tool("f")
    required = [name for name in tool.parameters["properties"] if name not in optional]
    parameters = tool.parameters | {"required": required, "optional": optional}
    request = convert_request(tools=(tool.model_copy(update={"parameters": parameters}),))
    values = {name: "miles" for name in required} | {"value": 12.5} if required else {}
    assert rejected_at(reply(json.dumps(values), name="f"), cursor_of(request)) is None


def test_without_anything_to_copy_values_are_free() -> None:
    cursor = cursor_of(convert_request(messages=(Message(role="system", content="Go"),)))
    text = reply('{"value": -3.25, "from_unit": "any thing", "to_unit": "\\n"}')
    assert rejected_at(text, cursor) is None


def test_tokens_that_cross_values_and_keys_are_allowed() -> None:
    cursor = cursor_of()
    for piece in ("Thought: ", "Convert", "\nAction: ", "convert_", "length"):
        cursor.accept(1 + 256 + [*_WORDS, *_RUNS].index(piece))
    for char in b"_for_unit_converter":
        cursor.accept(char + 1)
    for piece in ("\nAction Input: ", '{"'):
        cursor.accept(1 + 256 + [*_WORDS, *_RUNS].index(piece))
    for char in b"value":
        cursor.accept(char + 1)
    for piece in ('": ', "12", ".5", ', "'):
        token = 1 + 256 + [*_WORDS, *_RUNS].index(piece)
        assert token in (cursor.allowed() or ())
        cursor.accept(token)


def test_a_thought_ends_after_64_tokens() -> None:
    cursor = cursor_of()
    tokens = [byte + 1 for byte in b"Thought: " + b"x" * 64]
    for token in tokens:
        cursor.accept(token)
    starts = {VOCABULARY.piece(t, after_alphanumeric=True)[:1] for t in cursor.allowed() or ()}
    assert starts == {b"\n"}


def test_a_token_that_was_not_offered_is_refused() -> None:
    with pytest.raises(ValueError, match="not allowed"):
        cursor_of().accept(ord("x") + 1)


def test_a_text_that_cannot_be_spelled_frees_the_reply() -> None:
    vocabulary = TokenVocabulary(
        pieces=[None, b"Thought: ", b"x"],
        pieces_after_alphanumeric=[None, b"Thought: ", b"x"],
        end_ids=[0],
    )
    request = convert_request()
    cursor = Cursor(ReplyGrammar(request, "values"), vocabulary)
    assert cursor.allowed() == {1}
    for _ in range(65):
        cursor.accept(2 if cursor.allowed() == {2} else 1)
    assert cursor.allowed() is None


_CLOSERS = b'"}\n,'


def finished_text(cursor: Cursor, draws: list[int]) -> str:
    """Random walk through the constraint, which heads for the end when the draws run out."""
    text = b""
    for step in range(3000):
        allowed = cursor.allowed()
        assert allowed
        if _END in allowed:
            return text.decode(errors="replace")
        after = ends_alphanumeric(text)
        tokens = sorted(allowed)
        closing = min(
            tokens,
            key=lambda t: (
                (_CLOSERS.find(VOCABULARY.piece(t, after_alphanumeric=after)[:1]) % 5),
                t,
            ),
        )
        token = tokens[draws[step] % len(tokens)] if step < len(draws) else closing
        cursor.accept(token)
        text += VOCABULARY.piece(token, after_alphanumeric=after)
    raise AssertionError(f"no end after {text!r}")


@given(
    draws=st.lists(st.integers(0, 10_000), max_size=120),
    constrain=st.sampled_from(["names", "values"]),
)
def test_whatever_is_allowed_is_a_call_of_an_offered_function(
    draws: list[int], constrain: Constrain
) -> None:
    request = convert_request()
    text = finished_text(cursor_of(request, constrain), draws)
    parser = ReactTextParser(call_id="call_0", end_text=None)
    parser.feed(text)
    (call,) = parser.message().tool_calls
    schemas = {tool.name: tool.parameters for tool in request.tools}
    arguments = json.loads(call.arguments)
    assert parser.is_complete
    assert call.name in schemas
    allowed_keys = ["return_type", "final_answer"] + list(schemas[call.name]["properties"])
    required = schemas[call.name].get("required", ["return_type"])
    assert [key for key in allowed_keys if key in arguments] == list(arguments)
    assert set(required) <= set(arguments)


@given(draws=st.lists(st.integers(0, 10_000), min_size=40, max_size=200))
def test_numbers_of_an_answer_occur_in_the_sources(draws: list[int]) -> None:
    cursor = cursor_of(convert_request(tools=()))
    prefix = b'Thought: \nAction: Finish\nAction Input: {"return_type": "give_answer", "f'
    for byte in prefix:
        cursor.accept(byte + 1)
    text = prefix.decode() + finished_text(cursor, draws)
    answer_text = json.loads(text.partition("Action Input: ")[2])["final_answer"]
    assert set(re.findall(r"[0-9]+(?:\.[0-9]+)*", answer_text)) <= {"12.5"}


def test_the_real_tokenizer_spells_right_replies(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    from services.llm.engines.transformers import vocabulary_of

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    cursor = Cursor(ReplyGrammar(convert_request(), "values"), vocabulary_of(tokenizer))
    for token in tokenizer(reply(CONVERT_ARGUMENTS) + "</s>")["input_ids"]:
        assert token in (cursor.allowed() or ())
        cursor.accept(token)


def test_a_step_takes_under_a_millisecond() -> None:
    words = " ".join(f"word{n} {n}.5" for n in range(150))
    request = convert_request(messages=(Message(role="user", content=f"{INSTRUCTION} {words}"),))
    cursor = cursor_of(request)
    data = reply(CONVERT_ARGUMENTS).encode()
    started = time.process_time()
    for byte in data:
        cursor.allowed()
        cursor.accept(byte + 1)
    assert (time.process_time() - started) / len(data) < 0.001


def test_a_lone_word_mark_is_allowed_before_a_word_and_never_twice() -> None:
    vocabulary = TokenVocabulary(
        pieces=[None, *_BYTES, b""], pieces_after_alphanumeric=[None, *_BYTES, b" "], end_ids=[0]
    )
    mark = len(vocabulary) - 1
    cursor = Cursor(ReplyGrammar(convert_request(), "values"), vocabulary)
    for byte in reply('{"value": 12.5, "from_unit": "').encode():
        cursor.accept(byte + 1)
    assert mark in (cursor.allowed() or ())
    cursor.accept(mark)
    allowed = cursor.allowed() or ()
    assert mark not in allowed
    assert ord("m") + 1 in allowed


def test_an_answer_may_name_what_a_result_is_called() -> None:
    messages = (
        Message(role="user", content="Hash it"),
        Message(role="tool", content='{"error": "", "response": {"md5": "ee03"}}'),
    )
    cursor = cursor_of(convert_request(messages=messages))
    assert rejected_at(answer("The md5 is ee03."), cursor) is None


CONVERT = "convert_length_for_unit_converter"
OTHER_ARGUMENTS = CONVERT_ARGUMENTS.replace("kilometres", "miles")


def tried(arguments: str, *, listed: bool) -> tuple[Message, ...]:
    call = MessageToolCall(id="c", name=CONVERT, arguments=arguments)
    made = (
        Message(role="assistant", content="x", tool_calls=(call,)),
        Message(role="tool", name=CONVERT, tool_call_id="c", content='{"error": "bad"}'),
    )
    entry = json.dumps([{"name": CONVERT, "arguments": arguments, "function_output": ""}])
    told = (Message(role="user", content=f"Choose another: {entry}"),)
    return (Message(role="user", content=INSTRUCTION), *(told if listed else made))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("constrain", ["names", "values"])
def test_a_call_is_not_made_twice_and_another_still_is(listed: bool, constrain: Constrain) -> None:
    request = convert_request(messages=tried(CONVERT_ARGUMENTS, listed=listed))
    assert rejected_at(reply(CONVERT_ARGUMENTS), cursor_of(request, constrain=constrain))
    assert rejected_at(reply(OTHER_ARGUMENTS), cursor_of(request, constrain=constrain)) is None


def test_a_function_whose_only_call_was_made_is_not_offered_again() -> None:
    tool = FunctionSchema(name="ping", description="", parameters={"type": "object"})
    call = MessageToolCall(id="c", name="ping", arguments="{}")
    messages = (
        Message(role="user", content=INSTRUCTION),
        Message(role="assistant", content="x", tool_calls=(call,)),
        Message(role="tool", name="ping", tool_call_id="c", content="{}"),
    )
    request = ChatRequest(messages=messages, tools=(tool,))
    assert rejected_at(reply("{}", name="ping"), cursor_of(request)) is not None
