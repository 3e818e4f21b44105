"""Grammars over bytes as lazily built automata: which bytes may come next, and after them.

A node is a state. Nodes are shared and remember their successors, so that a state reached twice is
the same object and what was computed for it can be kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

from services.llm.engines.vocabulary import FreeText

_QUOTE, _BACKSLASH, _NEWLINE, _POINT, _MINUS = b'"\\\n.-'
_DIGITS = frozenset(b"0123456789")
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_SIMPLE_ESCAPES = frozenset(b'"\\/bfnrt')


class Node(ABC):
    """One state of a grammar."""

    __slots__ = ("_steps",)

    may_end: ClassVar[bool] = False
    """Whether the reply may end here."""

    def __init__(self) -> None:
        self._steps: dict[int, Node | None] = {}

    @property
    def free(self) -> FreeText | None:
        """A kind of text of which every piece is allowed here, whatever comes next."""
        return None

    def step(self, byte: int) -> "Node | None":
        """The state after one more byte; `None` when it is not allowed."""
        if byte not in self._steps:
            self._steps[byte] = self._step(byte)
        return self._steps[byte]

    @abstractmethod
    def _step(self, byte: int) -> "Node | None": ...


class End(Node):
    """Nothing may follow."""

    __slots__ = ()
    may_end = True

    def _step(self, byte: int) -> Node | None:
        return None


class Literal(Node):
    """Exactly one text, not empty, then another state."""

    __slots__ = ("_tail", "_text")

    def __init__(self, text: bytes, tail: Node) -> None:
        super().__init__()
        self._text, self._tail = text, tail

    def _step(self, byte: int) -> Node | None:
        if byte != self._text[0]:
            return None
        return self._tail if len(self._text) == 1 else Literal(self._text[1:], self._tail)


class _Union(Node):
    """Any of several states."""

    __slots__ = ("_nodes",)

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        super().__init__()
        self._nodes = nodes

    def _step(self, byte: int) -> Node | None:
        return unite(node.step(byte) for node in self._nodes)


def unite(nodes: Iterable[Node | None]) -> Node | None:
    """The state that allows what any of the given ones allows; none of them may be an `End`."""
    distinct = tuple(dict.fromkeys(node for node in nodes if node is not None))
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    return _Union(distinct)


class Lazy(Node):
    """A state built only when it is reached."""

    __slots__ = ("_build", "_built")

    def __init__(self, build: Callable[[], Node]) -> None:
        super().__init__()
        self._build = build
        self._built: Node | None = None

    def _step(self, byte: int) -> Node | None:
        if self._built is None:
            self._built = self._build()
        return self._built.step(byte)


class Words(Node):
    """One of several texts, then another state."""

    __slots__ = ("_tail", "_texts")

    def __init__(self, texts: frozenset[bytes], tail: Node) -> None:
        super().__init__()
        self._texts, self._tail = texts, tail

    def _step(self, byte: int) -> Node | None:
        rest = frozenset(text[1:] for text in self._texts if text and text[0] == byte)
        longer = rest - {b""}
        return unite(
            (Words(longer, self._tail) if longer else None, self._tail if b"" in rest else None)
        )


class SpanText:
    """Texts from which spans may be taken, joined, with the offsets where one starts and ends."""

    __slots__ = ("data", "ends", "starts")

    def __init__(self, *, data: bytes, starts: tuple[int, ...], ends: frozenset[int]) -> None:
        self.data, self.starts, self.ends = data, starts, ends


class Span(Node):
    """A span of the sources, then another state, which starts with what no span contains."""

    __slots__ = ("_by_byte", "_positions", "_tail", "_text")

    def __init__(self, text: SpanText, positions: tuple[int, ...], tail: Node) -> None:
        super().__init__()
        self._text, self._positions, self._tail = text, positions, tail
        self._by_byte: dict[int, list[int]] | None = None

    def _step(self, byte: int) -> Node | None:
        if self._by_byte is None:
            self._by_byte = self._group()
        following = self._by_byte.get(byte)
        if following is None:
            return None
        can_end = not self._text.ends.isdisjoint(following)
        return unite(
            (Span(self._text, tuple(following), self._tail), self._tail if can_end else None)
        )

    def _group(self) -> dict[int, list[int]]:
        data = self._text.data
        groups: dict[int, list[int]] = {}
        for position in self._positions:
            if position < len(data):
                groups.setdefault(data[position], []).append(position + 1)
        return groups


class Except(Node):
    """What another state allows, but for some whole texts.

    A text that is the only way on from some point cannot be left out there, so it is left out
    where there was a choice: make it with `without`, which knows.
    """

    __slots__ = ("_node", "_texts")

    def __init__(self, node: Node, texts: frozenset[bytes]) -> None:
        super().__init__()
        self._node, self._texts = node, texts

    def _step(self, byte: int) -> Node | None:
        following = self._node.step(byte)
        if following is None:
            return None
        rest = _after(self._texts, byte)
        return None if b"" in rest else without(following, rest)


def without(node: Node, texts: frozenset[bytes]) -> Node | None:
    """`node` but for whole texts; `None` when nothing else is left. No text is empty."""
    if not texts:
        return node
    return Except(node, texts) if _has_other(node, texts) else None


def _has_other(node: Node, texts: frozenset[bytes]) -> bool:
    """Whether the state allows anything that is none of the texts."""
    for byte in range(256):
        following = node.step(byte)
        if following is None:
            continue
        rest = _after(texts, byte)
        if not rest or (b"" not in rest and _has_other(following, rest)):
            return True
    return False


def _after(texts: frozenset[bytes], byte: int) -> frozenset[bytes]:
    return frozenset(text[1:] for text in texts if text[0] == byte)


class Line(Node):
    """Free text up to the end of the line, then another state."""

    __slots__ = ("_tail",)

    def __init__(self, tail: Node) -> None:
        super().__init__()
        self._tail = tail

    @property
    def free(self) -> FreeText | None:
        """See `Node.free`."""
        return FreeText.LINE

    def closed(self) -> Node:
        """The state in which the line must end now."""
        return Literal(b"\n", self._tail)

    def _step(self, byte: int) -> Node | None:
        if byte == _NEWLINE:
            return self._tail
        return self if byte >= 0x20 else None


class FreeString(Node):
    """Free text inside JSON quotes, the closing quote, then another state."""

    __slots__ = ("_tail",)

    def __init__(self, tail: Node) -> None:
        super().__init__()
        self._tail = tail

    @property
    def free(self) -> FreeText | None:
        """See `Node.free`."""
        return FreeText.STRING

    def _step(self, byte: int) -> Node | None:
        if byte == _QUOTE:
            return self._tail
        if byte == _BACKSLASH:
            return _Escape(self)
        return self if byte >= 0x20 else None


class _Escape(Node):
    """What follows a backslash in JSON."""

    __slots__ = ("_back",)

    def __init__(self, back: Node) -> None:
        super().__init__()
        self._back = back

    def _step(self, byte: int) -> Node | None:
        if byte in _SIMPLE_ESCAPES:
            return self._back
        return _CodePoint("", self._back) if byte == ord("u") else None


class _CodePoint(Node):
    r"""The four digits of `\uXXXX`: no ASCII (it needs no escape) and no half of a pair."""

    __slots__ = ("_back", "_digits")

    def __init__(self, digits: str, back: Node) -> None:
        super().__init__()
        self._digits, self._back = digits, back

    def _step(self, byte: int) -> Node | None:
        if byte not in _HEX_DIGITS:
            return None
        digits = self._digits + chr(byte).lower()
        is_ascii = len(digits) == 3 and digits < "008"
        is_surrogate = len(digits) == 2 and "d8" <= digits <= "df"
        if is_ascii or is_surrogate:
            return None
        return self._back if len(digits) == 4 else _CodePoint(digits, self._back)


class FreeNumber(Node):
    """A JSON number of at most 12 digits before and 12 after the point, then another state."""

    __slots__ = ("_read", "_tail")

    def __init__(self, tail: Node, read: str = "") -> None:
        super().__init__()
        self._tail, self._read = tail, read

    def _step(self, byte: int) -> Node | None:
        whole, point, fraction = self._read.lstrip("-").partition(".")
        grown = FreeNumber(self._tail, self._read + chr(byte))
        if byte in _DIGITS:
            has_room = len(fraction) < 12 if point else len(whole) < 12 and whole != "0"
            return grown if has_room else None
        if byte == _MINUS and not self._read:
            return grown
        if byte == _POINT and whole and not point:
            return grown
        is_number = bool(fraction) if point else bool(whole)
        return self._tail.step(byte) if is_number else None


class Prose(Node):
    """Free text inside JSON quotes whose numbers all come from a given set; then another state."""

    __slots__ = ("_numbers", "_tail")

    def __init__(self, numbers: frozenset[bytes], tail: Node) -> None:
        """`numbers` are digit texts, possibly with a point; none is empty."""
        super().__init__()
        self._numbers, self._tail = numbers, tail

    @property
    def free(self) -> FreeText | None:
        """See `Node.free`."""
        return FreeText.PROSE

    def _step(self, byte: int) -> Node | None:
        if byte == _QUOTE:
            return self._tail
        if byte == _BACKSLASH:
            return _Escape(self)
        if byte in _DIGITS:
            return _number_tail(self._numbers, byte, self)
        return self if byte >= 0x20 else None


class _NumberTail(Node):
    """Inside a number of a `Prose`."""

    __slots__ = ("_prose", "_rest")

    def __init__(self, rest: frozenset[bytes], prose: Prose) -> None:
        super().__init__()
        self._rest, self._prose = rest, prose

    @property
    def free(self) -> FreeText | None:
        """See `Node.free`; only where the number may be over."""
        return FreeText.PROSE if b"" in self._rest else None

    def _step(self, byte: int) -> Node | None:
        longer = _number_tail(self._rest, byte, self._prose)
        if byte in _DIGITS or b"" not in self._rest:
            return longer
        if byte == _POINT:  # the end of a sentence, or the start of the fraction
            return unite((longer, _AfterPoint(self._prose)))
        return self._prose.step(byte)


def _number_tail(numbers: frozenset[bytes], byte: int, prose: Prose) -> Node | None:
    rest = frozenset(text[1:] for text in numbers if text and text[0] == byte)
    return _NumberTail(rest, prose) if rest else None


class _AfterPoint(Node):
    """After a number and a full stop: a digit would make another number of it."""

    __slots__ = ("_prose",)

    def __init__(self, prose: Prose) -> None:
        super().__init__()
        self._prose = prose

    @property
    def free(self) -> FreeText | None:
        """See `Node.free`."""
        return FreeText.PROSE

    def _step(self, byte: int) -> Node | None:
        return None if byte in _DIGITS else self._prose.step(byte)
