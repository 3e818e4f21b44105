"""Augmentation when a conversation is read: other values, other wordings, the same trajectory.

Swapped values: a closed set (units, currencies) can be learned by heart. Where a text value of an
argument stands verbatim in the instruction or in an earlier observation, it is replaced by made-up
words everywhere in the conversation, so that the model must point instead of remember.

Dropped words: phrasings are few, and an evaluated instruction never uses one of them. Words of the
instruction that no call needs are left out at random, so that no single word decides.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from services.llm.training.corpus import Conversation
from services.llm.training.render import FINISH, JsonObject, JsonValue

_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"
_DROP_RATE = 0.1
_WORD = re.compile(r"[^\W\d_]+")
_DROPPABLE = re.compile(r"(?<![\w\"'])([^\W\d_]+) (?=\w)")  # a word in running text and its space
_MIN_VALUE_CHARS = 3  # shorter values ("m", "kg") also stand inside other words' meaning too often


def made_up_value(rng: np.random.Generator) -> str:
    """One to three pronounceable words, capitalised half of the time."""
    words = [
        "".join(
            rng.choice(list(_CONSONANTS)) + rng.choice(list(_VOWELS))
            for _ in range(int(rng.integers(2, 4)))
        )
        + str(rng.choice(["", "n", "r", "s", "x"]))
        for _ in range(int(rng.choice([1, 1, 2, 3])))
    ]
    value = " ".join(words)
    return value.title() if rng.random() < 0.5 else value


def swap_values(conversation: Conversation, rng: np.random.Generator) -> Conversation:
    """Replace the copied text values consistently; no such value, no change."""
    mapping = {value: made_up_value(rng) for value in dict.fromkeys(_copied_values(conversation))}
    if not mapping:
        return conversation
    longest_first = sorted(mapping, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")
    messages = [_swapped(message, pattern, mapping) for message in conversation.messages]
    return replace(conversation, messages=messages)


def drop_words(conversation: Conversation, rng: np.random.Generator) -> Conversation:
    """The conversation with a tenth of the instruction's words gone, none that a call uses."""
    values = " ".join(
        value for message in conversation.messages for value in _argument_values(message)
    )
    needed = set(_WORD.findall(values.casefold()))

    def keep_or_drop(match: re.Match[str]) -> str:
        is_needed = match.group(1).casefold() in needed
        return match.group(0) if is_needed or rng.random() >= _DROP_RATE else ""

    messages = list(conversation.messages)
    for index, message in enumerate(messages):
        if message.get("role") == "user":
            text = _DROPPABLE.sub(keep_or_drop, str(message.get("content") or ""))
            messages[index] = {**message, "content": text}
            break  # later user messages list earlier candidates and are data, not wording
    return replace(conversation, messages=messages)


def _copied_values(conversation: Conversation) -> Iterator[str]:
    """Text values of arguments that stand verbatim in an earlier user or tool message."""
    seen = ""
    for message in conversation.messages:
        if message.get("role") in ("user", "tool"):
            seen += "\n" + str(message.get("content") or "")
        for value in _argument_values(message):
            is_copied = re.search(r"(?<!\w)" + re.escape(value) + r"(?!\w)", seen) is not None
            if (
                is_copied
                and len(value) >= _MIN_VALUE_CHARS
                and not any(c.isdigit() or c in '"\\' for c in value)
            ):
                yield value


def _argument_values(message: JsonObject) -> list[str]:
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return []
    function = calls[0]["function"]
    if function["name"] == FINISH:
        return []
    arguments = json.loads(function["arguments"])
    return (
        [value for value in arguments.values() if isinstance(value, str)]
        if isinstance(arguments, dict)
        else []
    )


def _swapped(message: JsonObject, pattern: re.Pattern[str], mapping: dict[str, str]) -> JsonObject:
    def substitute(text: str) -> str:
        return pattern.sub(lambda match: mapping[match.group(0)], text)

    changed: dict[str, JsonValue] = dict(message)
    if message.get("content"):
        changed["content"] = substitute(str(message["content"]))
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        function = {
            **calls[0]["function"],
            "arguments": _swapped_arguments(calls[0]["function"], substitute),
        }
        changed["tool_calls"] = [{**calls[0], "function": function}]
    return changed


def _swapped_arguments(function: Mapping[str, str], substitute: Callable[[str], str]) -> str:
    """Replace values, never keys: a key may spell the same word as a value."""
    arguments = json.loads(function["arguments"])
    if not isinstance(arguments, dict):
        return function["arguments"]
    return json.dumps({k: substitute(v) if isinstance(v, str) else v for k, v in arguments.items()})
