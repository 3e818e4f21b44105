"""The retriever: owns the index in force, builds the next one beside it, and ranks APIs."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import structlog

from services.contracts.apis import ApiDocument
from services.contracts.context import remaining_s
from services.contracts.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ServiceError,
)
from services.contracts.retriever import IndexStatus, RetrieveRequest, RetrieveResult
from services.retriever.corpus import Corpus, CorpusEntry, TextTemplate, build_corpus
from services.retriever.embedder import Embedder
from services.retriever.fusion import Fusion, fuse
from services.retriever.index.base import (
    REBUILD_COMMAND,
    ChannelHits,
    IndexMeta,
    IndexPoint,
    IndexStore,
    VectorIndex,
    identify,
    text_id,
)
from services.retriever.lexical import analyse, average_length, document_terms, query_terms

_MAX_SEARCH_S = 10.0  # a search takes milliseconds; longer means the store hangs
_MAX_BUILD_WAIT_S = 3600.0  # behind another caller's build of the published 16,000 documents
log = structlog.get_logger()


class RetrieverService:
    """See `Retriever`."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        store: IndexStore,
        template: TextTemplate,
        fusion: Fusion,
        candidates: int,
        batch_size: int,
    ) -> None:
        """Put the parts together.

        Args:
            embedder: Encoder of queries and documents; the caller closes it.
            store: Where indexes are kept; the caller closes it.
            template: Text of a document that the encoder reads.
            fusion: How the channels are joined.
            candidates: Hits asked of each channel, raised to `top_k` where that is more.
            batch_size: Documents encoded at once; a query waits for at most one batch.
        """
        self._embedder = embedder
        self._store = store
        self._template = template
        self._fusion = fusion
        self._candidates = candidates
        self._batch_size = batch_size
        self._index: VectorIndex | None = None
        self._status: IndexStatus | None = None
        self._refusal: ServiceError | None = None
        self._building = asyncio.Lock()

    async def start(self) -> None:
        """Reopen the index in force; one that cannot serve is reported by the first call."""
        started = time.perf_counter()
        try:
            index = await self._store.current()
        except ServiceError as exc:
            log.warning("index_refused", detail=exc.detail)
            self._refusal = exc
            return
        if index is None:
            return
        mismatch = self._mismatch(index.meta)
        if mismatch is not None:
            log.warning("index_refused", detail=mismatch)
            self._refusal = FailedPrecondition(mismatch)
            await index.close()
            return
        await self._serve(index, rebuilt=False, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Close the index in force."""
        index, self._index = self._index, None
        if index is not None:
            await index.close()

    async def check_ready(self) -> None:
        """Wait until the encoder is loaded; an index is not needed, `index` brings it."""
        await self._embedder.load()

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResult:
        """See `Retriever.retrieve`."""
        started = time.perf_counter()
        if not request.query.strip():
            raise InvalidArgument(f"query {request.query!r} is blank; write what you look for")
        self._in_force()
        vector = await self._embedder.embed_query(request.query)
        terms = query_terms(request.query)
        limit = max(self._candidates, request.top_k)
        # Taken after the last wait: a swap in between closes the former index once this search,
        # already begun, has ended.
        index = self._in_force()
        try:
            async with asyncio.timeout(remaining_s(at_most_s=_MAX_SEARCH_S)):
                hits: ChannelHits = await index.search(vector, terms, limit=limit)
        except TimeoutError as exc:
            raise DeadlineExceeded("the index did not answer in time; retry") from exc
        return RetrieveResult(
            apis=fuse(hits, fusion=self._fusion, top_k=request.top_k, limit=limit),
            index_version=index.meta.version,
            latency_s=time.perf_counter() - started,
        )

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        """See `Retriever.index`."""
        if not documents:
            raise InvalidArgument("there are 0 documents to index, at least 1 is needed")
        try:
            async with asyncio.timeout(remaining_s(at_most_s=_MAX_BUILD_WAIT_S)):
                await self._building.acquire()
        except TimeoutError as exc:
            raise DeadlineExceeded("another index was being built all the time; retry") from exc
        try:
            return await self._index_now(documents)
        finally:
            self._building.release()

    async def status(self) -> IndexStatus | None:
        """See `Retriever.status`."""
        if self._refusal is not None:
            raise _again(self._refusal)
        return self._status

    def _in_force(self) -> VectorIndex:
        if self._index is not None:
            return self._index
        if self._refusal is not None:
            raise _again(self._refusal)
        raise FailedPrecondition(f"no index has been built; run `{REBUILD_COMMAND}`")

    def _mismatch(self, meta: IndexMeta) -> str | None:
        ours, theirs = self._identity(), (meta.encoder_id, meta.text_id)
        if ours == theirs:
            return None
        return (
            f"index {meta.version} was built with encoder {theirs[0]!r} and text {theirs[1]!r}, "
            f"this service runs encoder {ours[0]!r} and text {ours[1]!r}; "
            f"run `{REBUILD_COMMAND}`"
        )

    def _identity(self) -> tuple[str, str]:
        return self._embedder.encoder_id, text_id(self._template)

    async def _index_now(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        started = time.perf_counter()
        corpus = await asyncio.to_thread(build_corpus, documents, self._template)
        encoder_id, text = self._identity()
        meta = identify(
            corpus_digest=corpus.digest,
            n_documents=len(corpus.entries),
            encoder_id=encoder_id,
            text=text,
        )
        if self._index is not None and self._index.meta.version == meta.version:
            return self._describe(meta, rebuilt=False, seconds=time.perf_counter() - started)
        index = await self._store.open(meta.version)
        rebuilt = index is None
        if index is None:
            index = await self._store.build(meta, self._points(corpus))
        seconds = time.perf_counter() - started
        return await self._serve(index, rebuilt=rebuilt, seconds=seconds)

    async def _serve(self, index: VectorIndex, *, rebuilt: bool, seconds: float) -> IndexStatus:
        """Swap the index in force; searches begun in the former one end before it closes."""
        former, self._index = self._index, index
        self._refusal = None
        self._status = self._describe(index.meta, rebuilt=rebuilt, seconds=seconds)
        log.info("index_in_force", **self._status.model_dump())
        if former is not None:
            await former.close()
        return self._status

    def _describe(self, meta: IndexMeta, *, rebuilt: bool, seconds: float) -> IndexStatus:
        return IndexStatus(
            version=meta.version,
            n_documents=meta.n_documents,
            encoder=meta.encoder_id,
            rebuilt=rebuilt,
            seconds=seconds,
        )

    async def _points(self, corpus: Corpus) -> AsyncIterator[Sequence[IndexPoint]]:
        tokens, average_terms = await asyncio.to_thread(_tokenise, corpus.entries)
        # Texts of like length together: a batch is padded to its longest.
        order = sorted(
            range(len(corpus.entries)), key=lambda i: (len(corpus.entries[i].dense_text), i)
        )
        for first in range(0, len(order), self._batch_size):
            chosen = order[first : first + self._batch_size]
            vectors = await self._embedder.embed_documents(
                [corpus.entries[i].dense_text for i in chosen]
            )
            yield [
                IndexPoint(
                    ref=corpus.entries[i].ref,
                    dense=vector,
                    sparse=document_terms(tokens[i], average_terms=average_terms),
                )
                for i, vector in zip(chosen, vectors, strict=True)
            ]


def _again(error: ServiceError) -> ServiceError:
    """A new error like it: one that is raised twice drags the first call's traceback along."""
    return type(error)(error.detail)


def _tokenise(entries: Sequence[CorpusEntry]) -> tuple[list[list[str]], float]:
    tokens = [analyse(entry.lexical_text) for entry in entries]
    return tokens, average_length(tokens)
