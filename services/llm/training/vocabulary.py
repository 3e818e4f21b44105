"""What the tokenizer learns from: training conversations without their open values.

A city seen a thousand times in training would become one token, while a held-out city stays in
pieces, and the model would meet pieces of names for the first time when it is tested. So values of
parameters and result fields that take many values count once each; words of phrasings, tool
descriptions and small closed sets (units, codes) count as often as they occur.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from services.llm.training.corpus import Conversation
from services.llm.training.render import FINISH, JsonObject, JsonValue, render_conversation

_MAX_CLOSED_VALUES = (
    40  # the largest closed sets here are lists of units and of currency codes, below 40 entries
)

_Field = tuple[str, str]


def tokenizer_texts(conversations: Sequence[Conversation]) -> Iterator[str]:
    """Texts for `train_tokenizer`, in a fixed order."""
    values: dict[_Field, set[str]] = defaultdict(set)
    for conversation in conversations:
        for field, value in _fields(conversation.messages):
            values[field].add(value)
    open_values = {
        value for found in values.values() if len(found) > _MAX_CLOSED_VALUES for value in found
    }
    closed = {
        value for found in values.values() if len(found) <= _MAX_CLOSED_VALUES for value in found
    }
    open_values -= closed
    for conversation in conversations:
        text = render_conversation(conversation.messages, conversation.tools)
        own = {value for _, value in _fields(conversation.messages)} & open_values
        yield (
            re.sub("|".join(map(re.escape, sorted(own, key=len, reverse=True))), "", text)
            if own
            else text
        )
    yield from sorted(open_values)


def _fields(messages: Sequence[JsonObject]) -> Iterator[tuple[_Field, str]]:
    """Every text value of arguments and results with the function and key it belongs to."""
    name = ""
    for message in messages:
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            name = calls[0]["function"]["name"]
            if name != FINISH:
                yield from _texts(name, _parsed(calls[0]["function"]["arguments"]))
        elif message.get("role") == "tool":
            observation = _parsed(str(message.get("content") or ""))
            yield from _texts("result of " + name, observation.get("response"))


def _parsed(text: str) -> Mapping[str, JsonValue]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _texts(name: str, value: JsonValue) -> Iterator[tuple[_Field, str]]:
    for key, item in value.items() if isinstance(value, Mapping) else ():
        if isinstance(item, str) and item.strip():
            yield (name, key), item
