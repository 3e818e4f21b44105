"""What the retriever asks of a vector store, and how an index is identified."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from services.contracts.apis import ApiRef
from services.contracts.base import ForeignModel
from services.retriever.corpus import TEXT_VERSION, TextTemplate
from services.retriever.lexical import ANALYSER_VERSION, SparseTerms

DENSE: Final = "dense"
SPARSE: Final = "sparse"
REBUILD_COMMAND: Final = "toolwright index build"
_LAYOUT_VERSION: Final = 1  # of vectors and payload; raised when a store writes them differently


class IndexMeta(ForeignModel):
    """What an index was made of; stored with it."""

    version: str
    """16 hex digits over everything below and the corpus."""
    encoder_id: str
    text_id: str
    n_documents: int


class IndexPoint(NamedTuple):
    """One API to be stored; `dense` has shape (d_model,) float32, L2-normalised."""

    ref: ApiRef
    dense: NDArray[np.float32]
    sparse: SparseTerms


class Hit(NamedTuple):
    """One API found by one channel; the score is a cosine or a BM25 sum."""

    ref: ApiRef
    score: float


@dataclass(frozen=True, slots=True)
class ChannelHits:
    """Hits of each channel, best first; the order among equal scores is undefined."""

    dense: tuple[Hit, ...]
    sparse: tuple[Hit, ...]


class VectorIndex(Protocol):
    """One finished, immutable index, open for searching. Safe to search concurrently."""

    @property
    def meta(self) -> IndexMeta:
        """What it was made of."""
        ...

    async def search(
        self, dense: NDArray[np.float32], sparse: SparseTerms, *, limit: int
    ) -> ChannelHits:
        """The best `limit` APIs of each channel; a query without terms has no sparse hits.

        Raises:
            Unavailable: The store cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Release it after the searches already begun."""
        ...


class IndexStore(Protocol):
    """Keeps finished indexes, one of them in force."""

    async def current(self) -> VectorIndex | None:
        """Open the index in force; `None` when there has been none.

        Raises:
            FailedPrecondition: It is damaged, or another process has the store open.
            Unavailable: The store cannot be reached.
        """
        ...

    async def open(self, version: str) -> VectorIndex | None:
        """Open a finished index and put it in force; `None` when it is missing or damaged."""
        ...

    async def build(
        self, meta: IndexMeta, batches: AsyncIterator[Sequence[IndexPoint]]
    ) -> VectorIndex:
        """Store all points as a new index, then put it in force and open it.

        Atomic: until the last step, and after a kill at any moment, the former index is in force.
        """
        ...

    async def close(self) -> None:
        """Give the store up; indexes opened from it are closed by their holders."""
        ...


def text_id(template: TextTemplate) -> str:
    """Name of the texts and the analyser that an index is built with."""
    return f"{template.value}-{TEXT_VERSION}+bm25-{ANALYSER_VERSION}"


def identify(*, corpus_digest: str, n_documents: int, encoder_id: str, text: str) -> IndexMeta:
    """Identity of the index of a corpus: equal versions mean interchangeable indexes."""
    parts = "\n".join((corpus_digest, encoder_id, text, str(_LAYOUT_VERSION)))
    version = hashlib.sha256(parts.encode()).hexdigest()[:16]
    return IndexMeta(version=version, encoder_id=encoder_id, text_id=text, n_documents=n_documents)


def to_payload(ref: ApiRef) -> dict[str, str]:
    """The payload of a point."""
    return {"category": ref.category, "tool": ref.tool, "api": ref.api}
