"""Words to sparse vectors: our analyser and the BM25 weight of a term in a document.

A document's value is BM25's saturated term frequency; the inverse document frequency is applied by
Qdrant's `Idf` modifier on the query side, in the embedded shard and in a server alike.

Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond",
section 3.4. Deviation: the IDF is Qdrant's, ln(1 + (N - n + 0.5) / (n + 0.5)), never negative.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

ANALYSER_VERSION: Final = 1
"""Raised whenever tokens or weights change, so that older indexes are not taken for current."""

_K1: Final = 1.2  # usual values of the source, section 3.4
_B: Final = 0.75
_MAX_TOKEN_CHARS: Final = 64  # longer runs are encoded data, not words

_WORD: Final = re.compile(r"[^\W_]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        "a about all also am an and any are as at be been but by can could did do does for "
        "from get give had has have he her him his how i if in into is it its just know let "
        "like me my need no not of on or our out please provide she should so some such tell "
        "than that the their them then there these they this those to up us want was we were "
        "what when where which who will with would you your",
    )
)
_KEEP_FINAL_S: Final = ("ss", "us", "is", "ws")
_VOWEL: Final = re.compile(r"[aeiouy]")


@dataclass(frozen=True, slots=True)
class SparseTerms:
    """A sparse vector: ascending 32-bit term ids and their weights, equally long."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def analyse(text: str) -> list[str]:
    """Terms of a text in order.

    Unicode NFKC; words split at punctuation, underscores and humps (`getUserID` gives `user`,
    `id`), lower case; stop words dropped; endings folded (`stem`).
    """
    return [stem(word) for word in _words(unicodedata.normalize("NFKC", text))]


def _words(text: str) -> Iterator[str]:
    for run in _WORD.finditer(text):
        for part in _HUMP.split(run.group()):
            word = part.lower()
            if len(word) <= _MAX_TOKEN_CHARS and word not in _STOP_WORDS:
                yield word


def stem(word: str) -> str:
    """Fold an English word's plural and its commonest verb endings.

    A light folding in the manner of Harman 1991 ("How effective is suffixing?"), whose finding is
    that more aggressive stemming does not help; `-ing` and `-ed` are added, because instructions
    say "tracking a package" where documents say "track package".
    """
    if not word.isascii() or not word.isalpha() or len(word) < 4:
        return word
    return _fold_verb(_fold_plural(word))


def _fold_plural(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-2]
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(_KEEP_FINAL_S):
        return word[:-1]
    return word


def _fold_verb(word: str) -> str:
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and _VOWEL.search(base):
            return _undouble(base)
    return _fold_final(word)


def _fold_final(word: str) -> str:
    """`movie` meets `movies` (movi), `city` meets `cities` (citi), `cache` meets `caching`."""
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "i"
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def _undouble(base: str) -> str:
    doubled = base[-1] == base[-2] and base[-1] not in "aeiouylsz"
    if doubled:
        return base[:-1]
    return base[:-1] if base.endswith("e") else base


def term_id(term: str) -> int:
    """Stable id of a term in [0, 2**32): the same on every machine and in every version.

    Two of the corpus's 20,000 terms share an id with probability 0.05; they then count as one.
    """
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "big")


def average_length(tokenised: list[list[str]]) -> float:
    """Mean number of terms of a document; 1.0 for an empty collection."""
    total = sum(len(tokens) for tokens in tokenised)
    return total / len(tokenised) if total else 1.0


def document_terms(tokens: list[str], *, average_terms: float) -> SparseTerms:
    """BM25's saturated term frequencies of one document.

    Args:
        tokens: `analyse` of the document.
        average_terms: Mean length of the collection's documents, terms.
    """
    norm = _K1 * (1.0 - _B + _B * len(tokens) / average_terms)
    weights: dict[int, float] = {}
    for term, count in Counter(tokens).items():
        identity = term_id(term)
        weights[identity] = weights.get(identity, 0.0) + count * (_K1 + 1.0) / (count + norm)
    return _sorted_terms(weights)


def query_terms(text: str) -> SparseTerms:
    """Terms of a query, each with weight 1; empty when it has only stop words."""
    return _sorted_terms({term_id(term): 1.0 for term in analyse(text)})


def _sorted_terms(weights: dict[int, float]) -> SparseTerms:
    ids = tuple(sorted(weights))
    return SparseTerms(ids=ids, weights=tuple(weights[identity] for identity in ids))
