"""Constrained decoding of a reply: an offered function, its schema's keys, values from the sources.

The grammar is the text format of the bundled model (`Thought: …`, `Action: …`, `Action Input: …`).
It makes invalid calls impossible; which of the valid ones is right stays the model's choice.
"""

import json
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Literal as OneOf

from pydantic import JsonValue

from services.contracts.llm import ChatRequest, FunctionSchema
from services.llm.engines.grammar import (
    End,
    FreeNumber,
    FreeString,
    Lazy,
    Line,
    Literal,
    Node,
    Prose,
    Span,
    Words,
    unite,
    without,
)
from services.llm.engines.sources import (
    json_numbers,
    number_texts,
    source_texts,
    span_text,
    tried_calls,
)
from services.llm.engines.vocabulary import TokenVocabulary, Trie, ends_alphanumeric

Constrain = OneOf["none", "names", "values"]

_MAX_THOUGHT_TOKENS = 64
_FINISH = "Finish"
_ANSWER = b'{"return_type": "give_answer", "final_answer": "'
_GIVE_UP = b'{"return_type": "give_up_and_restart"}'
_LETTERS = string.ascii_letters.encode()
_SCALARS = (str, int, float, bool)


class ReplyGrammar:
    """The replies that a request allows."""

    def __init__(self, request: ChatRequest, constrain: Constrain) -> None:
        """Build the grammar; a millisecond for a few kilobytes of sources.

        Args:
            request: Its tools may be called, its user and tool messages copied from.
            constrain: `names` fixes function and keys, `values` also where values come from; with
                either no call is made twice.
        """
        self._end = End()
        texts = source_texts(request.messages) if constrain == "values" else []
        self._from_sources = constrain == "values"
        self._spans = span_text(texts)
        self._numbers = number_texts(texts)
        # An answer may name what a result is called: "md5", "pm10".
        named = [message.content or "" for message in request.messages if message.role == "tool"]
        self._answer_numbers = self._numbers | number_texts(named)
        self._tried = tried_calls(request.messages)
        self.root: Node = Literal(b"Thought: ", Line(self._action(request.tools)))

    def _action(self, tools: Sequence[FunctionSchema]) -> Node:
        options = [self._call(tool) for tool in tools if tool.name != _FINISH]
        finish = Literal(f"Action: {_FINISH}\nAction Input: ".encode(), Lazy(self._finish))
        return _any_of(*options, finish)

    def _call(self, tool: FunctionSchema) -> Node | None:
        """A call that was not made before: the same one would only give the same answer."""
        tried = self._tried.get(tool.name)
        arguments = without(self._arguments(tool), tried) if tried else None
        if tried and arguments is None:
            return None
        head = f"Action: {tool.name}\nAction Input: ".encode()
        return Literal(head, arguments or Lazy(lambda: self._arguments(tool)))

    def _finish(self) -> Node:
        closing = Literal(b"}", self._end)
        numbers = frozenset(number.encode() for number in self._answer_numbers)
        text: Node = Prose(numbers, closing) if self._from_sources else FreeString(closing)
        return _any_of(Literal(_ANSWER, text), Literal(_GIVE_UP, self._end))

    def _arguments(self, tool: FunctionSchema) -> Node:
        """An object with the schema's keys in the schema's order; optional ones may be left out."""
        properties = tool.parameters.get("properties")
        schemas = properties if isinstance(properties, dict) else {}
        required = _names(tool.parameters.get("required"))
        # Built from the last key to the first. `following` holds the keys that may come next: all
        # up to and with the next required one.
        following: list[Node] = []
        closing: Node | None = Literal(b"}", self._end)
        for name, schema in reversed(schemas.items()):
            after = _any_of(*(Literal(b", ", key) for key in following), closing)
            value = self._value(schema if isinstance(schema, dict) else {}, after)
            key = Literal(f"{json.dumps(name)}: ".encode(), value)
            is_required = name in required
            following = [key] if is_required else [key, *following]
            closing = None if is_required else closing
        return Literal(b"{", _any_of(*following, closing))

    def _value(self, schema: Mapping[str, JsonValue], tail: Node) -> Node:
        options = schema.get("enum")
        if isinstance(options, list) and options:
            return Words(_spelled(options), tail)
        kinds: dict[str, Callable[[Sequence[JsonValue], Node], Node]] = {
            "string": self._string,
            "integer": self._number,
            "number": self._number,
            "boolean": _boolean,
        }
        examples = [schema[key] for key in ("example_value", "default") if key in schema]
        build = kinds.get(str(schema.get("type")))
        if build is not None:
            return build(examples, tail)
        return _any_of(*(build(examples, tail) for build in (self._string, self._number, _boolean)))

    def _string(self, examples: Sequence[JsonValue], tail: Node) -> Node:
        closing = Literal(b'"', tail)
        if not (self._from_sources and self._spans.starts):
            return Literal(b'"', FreeString(tail))
        span = Literal(b'"', Span(self._spans, self._spans.starts, closing))
        texts = _spelled([value for value in examples if value and isinstance(value, str)])
        return _any_of(span, Words(texts, tail) if texts else None)

    def _number(self, examples: Sequence[JsonValue], tail: Node) -> Node:
        numbers = json_numbers(self._numbers | number_texts([str(value) for value in examples]))
        # Quoted as well: ToolBench's schemas call numbers what its examples often give as text.
        if not (self._from_sources and numbers):
            quoted = Literal(b'"', FreeNumber(Literal(b'"', tail)))
            return _any_of(FreeNumber(tail), quoted)
        spelled = (text for number in numbers for text in (number, f'"{number}"'))
        return Words(frozenset(text.encode() for text in spelled), tail)


def _any_of(*nodes: Node | None) -> Node:
    united = unite(nodes)
    assert united is not None, "an alternative without options"
    return united


def _boolean(_: Sequence[JsonValue], tail: Node) -> Node:
    return Words(frozenset((b"true", b"false")), tail)


def _spelled(values: Sequence[JsonValue]) -> frozenset[bytes]:
    return frozenset(
        json.dumps(value, ensure_ascii=ascii_only).encode()
        for value in values
        for ascii_only in (True, False)
        if isinstance(value, _SCALARS)
    )


def _names(value: JsonValue) -> frozenset[str]:
    return (
        frozenset(str(name) for name in value if name) if isinstance(value, list) else frozenset()
    )


class Cursor:
    """Where one reply stands in its grammar. Not thread-safe."""

    def __init__(self, grammar: ReplyGrammar, vocabulary: TokenVocabulary) -> None:
        self._vocabulary = vocabulary
        self._node: Node | None = grammar.root
        self._tail = b""
        self._after_silent = False
        self._n_thought_tokens = 0
        self._allowed: dict[tuple[Node, bool, bool], frozenset[int]] = {}

    def allowed(self) -> frozenset[int] | None:
        """Tokens that may come next, never empty; `None` when the reply is not constrained.

        A text that this vocabulary cannot spell frees the rest of the reply.
        """
        if self._node is None:
            return None
        key = (self._node, ends_alphanumeric(self._tail), self._after_silent)
        if key not in self._allowed:
            self._allowed[key] = self._compute(*key)
        if not self._allowed[key]:
            self._node = None
            return None
        return self._allowed[key]

    def _compute(self, node: Node, after_alphanumeric: bool, after_silent: bool) -> frozenset[int]:
        if node.may_end:
            return self._vocabulary.end_ids
        kind = node.free
        trie = self._vocabulary.trie(kind, after_alphanumeric=after_alphanumeric)
        found = frozenset(_reachable(node, trie))
        if kind is not None:
            found |= self._vocabulary.free_ids(kind, after_alphanumeric=after_alphanumeric)
        silent = self._vocabulary.silent_ids(after_alphanumeric=after_alphanumeric)
        # Never two in a row: they bring the reply no further.
        if found and silent and not after_silent and any(map(node.step, _LETTERS)):
            found |= silent
        return found

    def accept(self, token_id: int) -> None:
        """Take the next token of the reply.

        Raises:
            ValueError: `allowed` did not offer it.
        """
        if self._node is None:
            return
        after = ends_alphanumeric(self._tail)
        piece = self._vocabulary.piece(token_id, after_alphanumeric=after)
        self._after_silent = token_id in self._vocabulary.silent_ids(after_alphanumeric=after)
        node: Node | None = self._node
        for byte in piece:
            node = None if node is None else node.step(byte)
        if node is None and token_id not in self._vocabulary.end_ids:
            raise ValueError(f"token {token_id!r} ({piece!r}) is not allowed here")
        self._node = self._limit_thought(node)
        self._tail = (self._tail + piece)[-4:]

    def _limit_thought(self, node: Node | None) -> Node | None:
        if not isinstance(node, Line):
            return node
        self._n_thought_tokens += 1
        return node.closed() if self._n_thought_tokens > _MAX_THOUGHT_TOKENS else node


def _reachable(root: Node, tokens: Trie) -> set[int]:
    """Tokens whose whole piece the grammar allows from `root`."""
    found: set[int] = set()
    open_pairs = [(root, tokens)]
    while open_pairs:
        node, trie = open_pairs.pop()
        for byte, child in trie.children.items():
            following = node.step(byte)
            if following is None:
                continue
            found.update(child.ids)
            if child.children:
                open_pairs.append((following, child))
    return found
