"""Chooses the retriever's parts: encoder, and embedded shard or server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.kit.settings import SharedSettings
from services.retriever.embedder import SentenceEncoder, find_encoder
from services.retriever.fusion import Fusion
from services.retriever.index.base import IndexStore
from services.retriever.service import RetrieverService
from services.retriever.settings import RetrieverSettings
from services.retriever.vector_cache import CachedEmbedder


@asynccontextmanager
async def open_retriever(
    settings: RetrieverSettings, shared: SharedSettings
) -> AsyncIterator[RetrieverService]:
    """A retriever with its index reopened and its encoder loading in the background.

    Raises:
        FailedPrecondition: The encoder's folder holds no model.
    """
    folder, name = find_encoder(settings.encoder)
    embedder = SentenceEncoder(
        folder=folder,
        name=name,
        max_waiting=settings.max_waiting,
        cache_size=settings.query_cache_size,
    )
    embedder.begin_loading()
    try:
        async with _open_store(settings, shared) as store:
            service = RetrieverService(
                embedder=CachedEmbedder(embedder, shared.toolwright_home / "vectors.db"),
                store=store,
                template=settings.text_template,
                fusion=Fusion(k=settings.fusion_k, sparse_weight=settings.sparse_weight),
                candidates=settings.candidates,
                batch_size=settings.batch_size,
            )
            await service.start()
            try:
                yield service
            finally:
                await service.close()
    finally:
        await embedder.close()


@asynccontextmanager
async def _open_store(
    settings: RetrieverSettings, shared: SharedSettings
) -> AsyncIterator[IndexStore]:
    if shared.qdrant_url is None:
        store = _edge_store(shared.toolwright_home / "index")
        try:
            yield store
        finally:
            await store.close()
        return
    from qdrant_client import AsyncQdrantClient  # each store's packages load only when it is used

    from services.retriever.index.server import ServerStore

    client = AsyncQdrantClient(
        url=shared.qdrant_url, timeout=settings.qdrant_timeout_s, check_compatibility=False
    )
    try:
        yield ServerStore(client, alias=settings.qdrant_alias)
    finally:
        await client.close()


def _edge_store(home: Path) -> IndexStore:
    from services.retriever.index.edge import EdgeStore

    return EdgeStore(home)
