"""Contract of the retriever: which APIs fit an instruction."""

from typing import Protocol

from pydantic import Field

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.base import ForeignModel, WireModel

MAX_TEXT_CHARS = 32_768
MAX_TOP_K = 100


class RetrieveRequest(WireModel):
    """What to look for."""

    query: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K)
    """How many different APIs to return."""


class RetrievedApi(ForeignModel):
    """One hit."""

    api: ApiRef
    rank: int = Field(ge=1)
    score: float
    """Fused score; comparable within one result only."""
    score_parts: dict[str, float] = {}
    """Score of each channel that found it: `dense` (cosine), `sparse` (BM25)."""


class RetrieveResult(ForeignModel):
    """Hits, best first; fewer than `top_k` only when the index is smaller."""

    apis: tuple[RetrievedApi, ...]
    index_version: str
    latency_s: float = Field(ge=0)


class IndexStatus(ForeignModel):
    """State of the index."""

    version: str
    """Hash over corpus, encoder and text template."""
    n_documents: int = Field(ge=0)
    encoder: str
    rebuilt: bool
    """False when a finished index of this version was found and reopened."""
    seconds: float = Field(ge=0)


class Retriever(Protocol):
    """Ranks APIs. Safe to call concurrently."""

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResult:
        """Rank APIs for a query.

        Raises:
            FailedPrecondition: No index was built, or it belongs to another encoder.
            Unavailable: The vector store cannot be reached.
        """
        ...

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        """Build the index of these documents, or reopen it if it exists; then serve from it.

        Idempotent and atomic: an interrupted build leaves the former index in force.
        """
        ...

    async def status(self) -> IndexStatus | None:
        """The index in force, `None` before the first.

        Raises:
            FailedPrecondition: There is one that cannot serve; the detail says why.
            Unavailable: The store cannot be reached.
        """
        ...
