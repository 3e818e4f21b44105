"""A tokenizer's tokens as byte strings, arranged for constrained decoding.

In tokenizers that imply spaces (a word mark, SentencePiece) a token's text depends on what stands
before it, so each token has two pieces: after a letter or digit, and after anything else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

_LINE_BYTES = frozenset(range(0x20, 0x100)) - {0x7F}
_STRING_BYTES = _LINE_BYTES - frozenset(b'"\\')
_PROSE_BYTES = _STRING_BYTES - frozenset(b"0123456789")


class FreeText(StrEnum):
    """A kind of text in which most tokens are allowed."""

    LINE = "line"
    """Anything but control characters."""
    STRING = "string"
    """Inside JSON quotes: also no quote and no backslash."""
    PROSE = "prose"
    """Inside JSON quotes, and no digit either."""


_BYTES_OF = {
    FreeText.LINE: _LINE_BYTES,
    FreeText.STRING: _STRING_BYTES,
    FreeText.PROSE: _PROSE_BYTES,
}


@dataclass(slots=True)
class Trie:
    """Tokens by the bytes of their pieces."""

    ids: list[int] = field(default_factory=list)
    """Tokens whose piece ends here."""
    children: dict[int, "Trie"] = field(default_factory=dict)

    def insert(self, piece: bytes, token_id: int) -> None:
        """Add one token."""
        node = self
        for byte in piece:
            node = node.children.setdefault(byte, Trie())
        node.ids.append(token_id)


@dataclass(frozen=True, slots=True)
class _Context:
    """The tokens as they read in one context."""

    pieces: Sequence[bytes | None]
    silent_ids: frozenset[int]
    """Tokens that add nothing here: a lone word mark."""
    trie: Trie
    free_ids: dict[FreeText, frozenset[int]]
    """Tokens made only of bytes that the kind allows anywhere."""
    other: dict[FreeText, Trie]
    """The rest of the tokens."""


class TokenVocabulary:
    """All tokens of one model. Immutable; shared by every request."""

    def __init__(
        self,
        *,
        pieces: Sequence[bytes | None],
        pieces_after_alphanumeric: Sequence[bytes | None],
        end_ids: Iterable[int],
    ) -> None:
        """Arrange the tokens; takes about 20 ms for 2,000.

        Args:
            pieces: Shape (n_tokens,); UTF-8 bytes each token adds after a text that ends in neither
                letter nor digit; `None` for a token that may not stand inside a reply.
            pieces_after_alphanumeric: The same after a letter or digit.
            end_ids: Tokens that end a reply.
        """
        self.end_ids = frozenset(end_ids)
        self._contexts = (_context(pieces), _context(pieces_after_alphanumeric))

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self._contexts[0].pieces)

    def piece(self, token_id: int, *, after_alphanumeric: bool) -> bytes:
        """Bytes that a token adds; none for one that may not stand inside a reply."""
        return self._contexts[after_alphanumeric].pieces[token_id] or b""

    def silent_ids(self, *, after_alphanumeric: bool) -> frozenset[int]:
        """Tokens that add nothing by themselves but stand before some spellings of a word."""
        return self._contexts[after_alphanumeric].silent_ids

    def trie(self, kind: FreeText | None, *, after_alphanumeric: bool) -> Trie:
        """All tokens, or those that `free_ids` of a kind leaves out."""
        context = self._contexts[after_alphanumeric]
        return context.trie if kind is None else context.other[kind]

    def free_ids(self, kind: FreeText, *, after_alphanumeric: bool) -> frozenset[int]:
        """Tokens that can stand anywhere in free text of a kind."""
        return self._contexts[after_alphanumeric].free_ids[kind]


def _context(pieces: Sequence[bytes | None]) -> _Context:
    trie = Trie()
    free: dict[FreeText, set[int]] = {kind: set() for kind in FreeText}
    other = {kind: Trie() for kind in FreeText}
    for token_id, piece in enumerate(pieces):
        if not piece:
            continue
        trie.insert(piece, token_id)
        for kind, allowed in _BYTES_OF.items():
            if allowed.issuperset(piece):
                free[kind].add(token_id)
            else:
                other[kind].insert(piece, token_id)
    free_ids = {kind: frozenset(ids) for kind, ids in free.items()}
    silent_ids = frozenset(token for token, piece in enumerate(pieces) if piece == b"")
    return _Context(pieces=pieces, silent_ids=silent_ids, trie=trie, free_ids=free_ids, other=other)


def ends_alphanumeric(text: bytes) -> bool:
    """Whether UTF-8 text, possibly cut in its last character, ends in a letter or digit."""
    last = text[-4:].decode("utf-8", errors="ignore")[-1:]
    return last.isalnum()
