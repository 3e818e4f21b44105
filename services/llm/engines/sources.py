"""What a conversation offers to copy from: words and numbers of the instruction and the results."""

import ast
import json
import re
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from services.contracts.llm import Message
from services.llm.engines.grammar import SpanText

_MAX_SOURCE_CHARS = 8_192  # of the newest texts: 2,000 to 4,000 tokens, a small model's context
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_NO_START = frozenset("{}[]():;,.!?")  # no value begins with one: fewer wrong spans
_SEPARATOR = b"\x00"  # no escaped text contains it, so no span reaches from one text into the next


def source_texts(messages: Sequence[Message]) -> list[str]:
    """The instruction and the results of tools, newest first, within a bound; of JSON, the values.

    The instruction is the first user message: later ones are the planner's lists of what was tried.
    What a failed call answered is left out too: it holds no value that a right call would copy.
    """
    texts: list[str] = []
    budget = _MAX_SOURCE_CHARS
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    for index, message in reversed(list(enumerate(messages))):
        is_source = message.role == "tool" or index in users[:1]
        if not is_source or not message.content or _is_failure(message):
            continue
        found = [message.content] if message.role == "user" else _values(message.content)
        for text in map(str.strip, found):
            if text and budget > 0:
                texts.append(text[:budget].rstrip())
                budget -= len(text)
    return list(dict.fromkeys(texts))


def tried_calls(messages: Sequence[Message]) -> dict[str, frozenset[bytes]]:
    """Arguments of the calls that this conversation has made or lists as tried, by function.

    The planner's list of earlier candidates is a JSON array in a user message after the first.
    """
    tried: dict[str, set[bytes]] = {}
    users = [message for message in messages if message.role == "user"]
    for message in messages:
        for call in message.tool_calls:
            tried.setdefault(call.name, set()).add(call.arguments.encode())
        if message in users[1:]:
            for name, arguments in _listed_calls(message.content or ""):
                tried.setdefault(name, set()).add(arguments.encode())
    return {name: frozenset(texts - {b""}) for name, texts in tried.items()}


def _listed_calls(text: str) -> Iterator[tuple[str, str]]:
    start = text.find("[")
    try:
        listed = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else []
    except (ValueError, RecursionError):
        return
    for candidate in listed:
        if isinstance(candidate, dict):
            name, arguments = candidate.get("name"), candidate.get("arguments")
            if isinstance(name, str) and isinstance(arguments, str):
                yield name, arguments


def _is_failure(message: Message) -> bool:
    """Whether a tool's answer is ToolBench's `{"error", "response"}` with an error."""
    answer = _parse(message.content or "") if message.role == "tool" else None
    return isinstance(answer, dict) and bool(answer.get("error"))


def _values(content: str) -> list[str]:
    parsed = _parse(content)
    return [content] if parsed is None else list(_leaves(parsed))


def _parse(text: str) -> JsonValue:
    """The value that a text spells as JSON or as a Python literal; `None` when it does neither."""
    if not text.lstrip().startswith(("{", "[")) or len(text) > _MAX_SOURCE_CHARS:
        return None
    for read in (_read_json, ast.literal_eval):
        try:
            value: JsonValue = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return value
    return None


def _read_json(text: str) -> JsonValue:
    value: JsonValue = json.loads(text, parse_float=str, parse_int=str)
    return value


def _leaves(value: JsonValue) -> Iterator[str]:
    """Texts and numbers inside a value, and of values that are spelled inside its texts."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        parsed = _parse(value)
        if parsed is None:
            yield value
        else:
            yield from _leaves(parsed)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def span_text(texts: Sequence[str]) -> SpanText:
    """The texts as they look inside JSON quotes, with the offsets where a value may start and end.

    A value starts and ends at the edge of a word or of a punctuation mark, never at a space. The
    texts must not end in one, or a span could run into a dead end. Text beyond ASCII is there
    twice, escaped and plain.
    """
    data = bytearray()
    starts: list[int] = []
    ends: list[int] = []
    for text in texts:
        for ensure_ascii in (True,) if text.isascii() else (True, False):
            _append(text, data, starts, ends, ensure_ascii=ensure_ascii)
            data += _SEPARATOR
    return SpanText(data=bytes(data), starts=tuple(starts), ends=frozenset(ends))


def _append(
    text: str, data: bytearray, starts: list[int], ends: list[int], *, ensure_ascii: bool
) -> None:
    before = " "
    for char in text:
        is_edge = not (before.isalnum() and char.isalnum())
        if is_edge and not before.isspace():
            ends.append(len(data))
        if is_edge and not char.isspace() and char not in _NO_START:
            starts.append(len(data))
        data += _escaped(char, ensure_ascii=ensure_ascii)
        before = char
    if not before.isspace():
        ends.append(len(data))


def _escaped(char: str, *, ensure_ascii: bool) -> bytes:
    if char.isascii() and char.isprintable() and char not in '"\\':
        return char.encode()
    return json.dumps(char, ensure_ascii=ensure_ascii)[1:-1].encode(errors="replace")


def number_texts(texts: Sequence[str]) -> frozenset[str]:
    """Every number in the texts, unsigned, as it is written and without zeros at its end."""
    numbers: set[str] = set()
    for text in texts:
        for found in _NUMBER.findall(text):
            numbers.add(found)
            whole, point, fraction = found.partition(".")
            if point and fraction.endswith("0"):
                shortest = fraction.rstrip("0")
                numbers |= {f"{whole}.{shortest}"} if shortest else {whole, f"{whole}.0"}
    return frozenset(numbers)


def json_numbers(numbers: frozenset[str]) -> frozenset[str]:
    """The numbers as JSON writes them, with either sign."""
    valid: set[str] = set()
    for number in numbers:
        whole, point, fraction = number.partition(".")
        if "." in fraction:
            continue
        plain = (whole.lstrip("0") or "0") + point + fraction
        valid |= {plain, f"-{plain}"}
    return frozenset(valid)
