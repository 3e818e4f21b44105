"""The index as a Qdrant Edge shard on the local disk, opened by one process at a time.

```text
<home>/lock                 flock of the process that has the store open; holds its pid
<home>/current              version in force, replaced atomically
<home>/<version>/meta.json  identity, and size and hash of each shard file; written last
<home>/<version>/shard/     the shard
<home>/building-<version>/  an unfinished build; removed by the next one
```
The shard is immutable once built and has no write-ahead log. It is left unoptimised on purpose: an
exact scan of 16,000 vectors takes 1.1 ms and loses nothing, an HNSW graph takes 15 s to build.
A damaged shard may load without complaint and answer wrongly (a truncated id file: half of the
documents are gone; a garbled vector file: cosines of 1e38), so hashes are checked on opening.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import qdrant_edge as edge
import structlog
from numpy.typing import NDArray
from pydantic import ValidationError

from services.contracts.apis import ApiRef
from services.contracts.errors import FailedPrecondition
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

_MUTABLE_FILES: Final = frozenset({"tracker_journal.dat", "edge_config.json"})
"""Rewritten by qdrant-edge whenever a shard is opened."""
_BUILDING: Final = "building-"
_BLOCK_BYTES: Final = 1 << 16

log = structlog.get_logger()
_Vector = list[float] | edge.SparseVector


class _ShardMeta(IndexMeta):
    """Contents of meta.json."""

    files: dict[str, str]
    """BLAKE2b of each file of the shard by its relative path."""


class EdgeIndex:
    """See `VectorIndex`; one thread searches, so that closing waits for the searches begun."""

    def __init__(self, shard: edge.EdgeShard, meta: IndexMeta) -> None:
        self._shard = shard
        self._meta = meta
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")

    @property
    def meta(self) -> IndexMeta:
        """See `VectorIndex.meta`."""
        return self._meta

    async def search(
        self, dense: NDArray[np.float32], sparse: SparseTerms, *, limit: int
    ) -> ChannelHits:
        """See `VectorIndex.search`."""
        future = self._thread.submit(self._search, dense, sparse, limit)
        async with attribute_to(FailedPrecondition, _mend(self._meta.version, "cannot be read")):
            return await asyncio.wrap_future(future)

    def _search(self, dense: NDArray[np.float32], sparse: SparseTerms, limit: int) -> ChannelHits:
        found = self._query(dense.tolist(), DENSE, limit)
        words = edge.SparseVector(indices=list(sparse.ids), values=list(sparse.weights))
        return ChannelHits(
            dense=found, sparse=self._query(words, SPARSE, limit) if sparse.ids else ()
        )

    def _query(self, vector: _Vector, channel: str, limit: int) -> tuple[Hit, ...]:
        query = edge.Query.Nearest(vector, using=channel)
        points = self._shard.query(edge.QueryRequest(limit=limit, query=query, with_payload=True))
        return tuple(Hit(ApiRef.model_validate(point.payload), point.score) for point in points)

    async def close(self) -> None:
        """See `VectorIndex.close`."""
        await asyncio.wrap_future(self._thread.submit(self._shard.close))
        self._thread.shutdown(wait=False)


class EdgeStore:
    """See `IndexStore`; a folder of shards. The first use locks the folder to this process."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock: int | None = None

    async def current(self) -> VectorIndex | None:
        """See `IndexStore.current`."""
        await asyncio.to_thread(self._acquire)
        version = _read_text(self._home / "current")
        if version is None:
            return None
        async with attribute_to(FailedPrecondition, _mend(version, f"in {self._home} is damaged")):
            return await asyncio.to_thread(_load, self._home / version)

    async def open(self, version: str) -> VectorIndex | None:
        """See `IndexStore.open`."""
        await asyncio.to_thread(self._acquire)
        if not (self._home / version / "meta.json").is_file():
            return None
        try:
            async with attribute_to(FailedPrecondition, f"open index {version}"):
                index = await asyncio.to_thread(_load, self._home / version)
        except FailedPrecondition as exc:
            log.warning("index_damaged", version=version, detail=exc.detail)
            return None
        await asyncio.to_thread(self._put_in_force, version)
        return index

    async def build(
        self, meta: IndexMeta, batches: AsyncIterator[Sequence[IndexPoint]]
    ) -> VectorIndex:
        """See `IndexStore.build`."""
        await asyncio.to_thread(self._acquire)
        unfinished = self._home / f"{_BUILDING}{meta.version}"
        await asyncio.to_thread(self._remove, prefix=_BUILDING)
        async with attribute_to(FailedPrecondition, f"build index {meta.version} in {self._home}"):
            await _write_shard(unfinished / "shard", batches)
            await asyncio.to_thread(_seal, unfinished, meta)
            return await asyncio.to_thread(self._publish, unfinished, meta.version)

    async def close(self) -> None:
        """See `IndexStore.close`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _acquire(self) -> None:
        if self._lock is not None:
            return
        self._home.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise FailedPrecondition(
                f"index folder {str(self._home)!r} is open in process {holder}, and one process "
                "may open it; use that one's address, or set another TOOLWRIGHT_HOME"
            ) from exc
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def _publish(self, unfinished: Path, version: str) -> EdgeIndex:
        final = self._home / version
        shutil.rmtree(final, ignore_errors=True)  # only a damaged one is ever built again
        unfinished.rename(final)
        index = _load(final)
        self._put_in_force(version)
        return index

    def _put_in_force(self, version: str) -> None:
        """Point `current` at a version; that one and its predecessor are kept, others removed."""
        former = _read_text(self._home / "current")
        if former == version:
            return
        _write_atomically(self._home / "current", version)
        self._remove(keep={version, former or version})

    def _remove(self, *, prefix: str = "", keep: set[str] | None = None) -> None:
        for folder in self._home.iterdir():
            wanted = folder.name in (keep or ())
            if folder.is_dir() and folder.name.startswith(prefix) and not wanted:
                shutil.rmtree(folder, ignore_errors=True)


async def _write_shard(folder: Path, batches: AsyncIterator[Sequence[IndexPoint]]) -> None:
    shard: edge.EdgeShard | None = None
    first_id = 0
    async for points in batches:
        if shard is None:
            shard = await asyncio.to_thread(_create, folder, len(points[0].dense))
        await asyncio.to_thread(_upsert, shard, points, first_id)
        first_id += len(points)
    if shard is None:
        raise FailedPrecondition("an index needs at least one document")
    await asyncio.to_thread(shard.flush)
    await asyncio.to_thread(shard.close)


def _create(folder: Path, dimension: int) -> edge.EdgeShard:
    folder.mkdir(parents=True)
    dense = edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine)
    sparse = edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)
    config = edge.EdgeConfig(
        vectors={DENSE: dense}, sparse_vectors={SPARSE: sparse}, wal_enabled=False
    )
    return edge.EdgeShard.create(str(folder), config)


def _upsert(shard: edge.EdgeShard, points: Sequence[IndexPoint], first_id: int) -> None:
    shard.update(
        edge.UpdateOperation.upsert_points(
            [
                edge.Point(first_id + offset, _vectors(point), to_payload(point.ref))
                for offset, point in enumerate(points)
            ]
        )
    )


def _vectors(point: IndexPoint) -> dict[str, _Vector | list[list[float]]]:
    sparse = edge.SparseVector(indices=list(point.sparse.ids), values=list(point.sparse.weights))
    return {DENSE: point.dense.tolist(), SPARSE: sparse}


def _seal(folder: Path, meta: IndexMeta) -> None:
    sealed = _ShardMeta(**meta.model_dump(), files=_hashes(folder / "shard"))
    _write_atomically(folder / "meta.json", sealed.model_dump_json())


def _load(folder: Path) -> EdgeIndex:
    """Open a finished index.

    Raises:
        FailedPrecondition: A file is missing or differs from what was built.
    """
    try:
        meta = _ShardMeta.model_validate_json((folder / "meta.json").read_bytes())
    except (OSError, ValidationError) as exc:
        raise FailedPrecondition(_mend(folder.name, "has no valid meta.json")) from exc
    found = _hashes(folder / "shard")
    if found != meta.files:
        wrong = sorted(set(found.items()) ^ set(meta.files.items()))[0][0]
        raise FailedPrecondition(_mend(folder.name, f"is damaged: {wrong} is not as built"))
    return EdgeIndex(edge.EdgeShard.load(str(folder / "shard")), IndexMeta(**meta.model_dump()))


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): _content_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _MUTABLE_FILES
    }


def _content_hash(path: Path) -> str:
    """BLAKE2b over a file's size and its blocks that are not all zeros.

    The store preallocates: of 100 MB in a small shard 1 MB is written and the rest is holes, which
    are skipped (0.1 s otherwise). A hole and written zeros count alike, so a copy hashes the same.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8, "big"))
        offset = _next_data(file.fileno(), 0)
        while offset < size:
            block = os.pread(file.fileno(), _BLOCK_BYTES, offset)
            if block.strip(b"\0"):
                digest.update(offset.to_bytes(8, "big") + block)
            offset = _next_data(file.fileno(), offset + _BLOCK_BYTES)
    return digest.hexdigest()


def _next_data(file: int, offset: int) -> int:
    """Start of the first block at or after `offset` that may hold data; 2**63 when none does."""
    try:
        found = os.lseek(file, offset, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            raise
        return 1 << 63
    return found - found % _BLOCK_BYTES


def _mend(version: str, state: str) -> str:
    return f"index {version} {state}; run `{REBUILD_COMMAND}`"


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
