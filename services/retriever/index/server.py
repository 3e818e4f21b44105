"""The index as a collection of a Qdrant server, shared by all replicas of this service.

Each version is a collection of its own, `<alias>-<version>`, that never changes once complete; the
alias points at the one in force and is moved in one step. Point ids follow from the version, so
two replicas that build the same version write the same points, and a build that was killed is
finished by repeating it. A replica picks up another's new index when it restarts or indexes.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient, models

from services.contracts.apis import ApiRef
from services.contracts.errors import FailedPrecondition, Unavailable
from services.kit.boundary import attribute_to
from services.retriever.index.base import (
    DENSE,
    REBUILD_COMMAND,
    SPARSE,
    ChannelHits,
    Hit,
    IndexMeta,
    IndexPoint,
    VectorIndex,
    to_payload,
)
from services.retriever.lexical import SparseTerms

_EXACT: Final = models.SearchParams(exact=True)  # as in the embedded shard; cheap at 16,000 points


class ServerIndex:
    """See `VectorIndex`; one complete collection."""

    def __init__(self, client: AsyncQdrantClient, collection: str, meta: IndexMeta) -> None:
        self._client = client
        self._collection = collection
        self._meta = meta

    @property
    def meta(self) -> IndexMeta:
        """See `VectorIndex.meta`."""
        return self._meta

    async def search(
        self, dense: NDArray[np.float32], sparse: SparseTerms, *, limit: int
    ) -> ChannelHits:
        """See `VectorIndex.search`."""
        requests = [_request(dense.tolist(), DENSE, limit)]
        if sparse.ids:
            requests.append(_request(_sparse(sparse), SPARSE, limit))
        async with attribute_to(Unavailable, f"search Qdrant collection {self._collection}"):
            answers = await self._client.query_batch_points(self._collection, requests)
            found = [_hits(answer) for answer in answers]
        return ChannelHits(dense=found[0], sparse=found[1] if sparse.ids else ())

    async def close(self) -> None:
        """See `VectorIndex.close`; the collection and the client stay."""


class ServerStore:
    """See `IndexStore`; the caller owns and closes the client, whose timeout bounds every call."""

    def __init__(self, client: AsyncQdrantClient, *, alias: str) -> None:
        self._client = client
        self._alias = alias

    async def current(self) -> VectorIndex | None:
        """See `IndexStore.current`."""
        async with attribute_to(Unavailable, "read the aliases of Qdrant"):
            collection = await self._in_force()
        if collection is None:
            return None
        index = await self._finished(collection)
        if index is None:
            raise FailedPrecondition(
                f"Qdrant collection {collection!r} is not complete; run `{REBUILD_COMMAND}`"
            )
        return index

    async def open(self, version: str) -> VectorIndex | None:
        """See `IndexStore.open`."""
        index = await self._finished(self._collection(version))
        if index is not None:
            await self._put_in_force(self._collection(version))
        return index

    async def build(
        self, meta: IndexMeta, batches: AsyncIterator[Sequence[IndexPoint]]
    ) -> VectorIndex:
        """See `IndexStore.build`."""
        collection = self._collection(meta.version)
        first_id = 0
        async for points in batches:
            async with attribute_to(Unavailable, f"write Qdrant collection {collection}"):
                if first_id == 0:
                    await self._create(collection, meta, dimension=len(points[0].dense))
                await self._client.upsert(collection, _structs(points, first_id), wait=True)
            first_id += len(points)
        index = await self._finished(collection)
        if index is None:
            raise Unavailable(f"Qdrant collection {collection!r} is not complete; build it again")
        await self._put_in_force(collection)
        return index

    async def close(self) -> None:
        """See `IndexStore.close`."""

    def _collection(self, version: str) -> str:
        return f"{self._alias}-{version}"

    async def _create(self, collection: str, meta: IndexMeta, *, dimension: int) -> None:
        if await self._client.collection_exists(collection):
            return
        dense = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
        sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
        await self._client.create_collection(
            collection,
            vectors_config={DENSE: dense},
            sparse_vectors_config={SPARSE: sparse},
            metadata=meta.model_dump(),
        )

    async def _finished(self, collection: str) -> ServerIndex | None:
        """The collection if it holds as many points as it should."""
        async with attribute_to(Unavailable, f"open Qdrant collection {collection}"):
            if not await self._client.collection_exists(collection):
                return None
            config = (await self._client.get_collection(collection)).config
            found = (await self._client.count(collection, exact=True)).count
        try:
            meta = IndexMeta.model_validate(config.metadata)
        except ValidationError:
            return None
        complete = found == meta.n_documents
        return ServerIndex(self._client, collection, meta) if complete else None

    async def _in_force(self) -> str | None:
        aliases = (await self._client.get_aliases()).aliases
        return next((a.collection_name for a in aliases if a.alias_name == self._alias), None)

    async def _put_in_force(self, collection: str) -> None:
        """Move the alias; the collection it leaves is kept, older ones are removed."""
        async with attribute_to(Unavailable, f"point alias {self._alias} at {collection}"):
            former = await self._in_force()
            if former == collection:
                return
            await self._client.update_collection_aliases(_move(self._alias, former, collection))
            for other in (await self._client.get_collections()).collections:
                ours = other.name.startswith(f"{self._alias}-")
                if ours and other.name not in (former, collection):
                    await self._client.delete_collection(other.name)


def _move(alias: str, former: str | None, collection: str) -> list[models.AliasOperations]:
    create = models.CreateAlias(collection_name=collection, alias_name=alias)
    steps: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=create)]
    if former is not None:
        delete = models.DeleteAlias(alias_name=alias)
        steps.insert(0, models.DeleteAliasOperation(delete_alias=delete))
    return steps


def _request(
    vector: list[float] | models.SparseVector, channel: str, limit: int
) -> models.QueryRequest:
    return models.QueryRequest(
        query=vector, using=channel, limit=limit, with_payload=True, params=_EXACT
    )


def _sparse(terms: SparseTerms) -> models.SparseVector:
    return models.SparseVector(indices=list(terms.ids), values=list(terms.weights))


def _structs(points: Sequence[IndexPoint], first_id: int) -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=first_id + offset,
            vector={DENSE: point.dense.tolist(), SPARSE: _sparse(point.sparse)},
            payload=dict(to_payload(point.ref)),
        )
        for offset, point in enumerate(points)
    ]


def _hits(answer: models.QueryResponse) -> tuple[Hit, ...]:
    return tuple(Hit(ApiRef.model_validate(p.payload), p.score) for p in answer.points)
