"""Vectors of documents kept on disk, so that adding one tool encodes one tool.

Only a cache: a row that is missing, damaged or of another encoder is encoded again, and a file that
cannot be used is done without.
"""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from services.retriever.embedder import Embedder, Vectors

log = structlog.get_logger()

_BUSY_TIMEOUT_S: Final = 2.0
_UNUSED_S: Final = 90 * 86_400  # texts that no build has asked for in a quarter are forgotten
_SCHEMA: Final = """
create table if not exists vectors (
  key blob primary key, vector blob not null, used_at real not null
) without rowid
"""


class CachedEmbedder:
    """See `Embedder`; documents are encoded once per encoder and text."""

    def __init__(self, embedder: Embedder, path: Path) -> None:
        """Wrap an embedder.

        Args:
            embedder: Encodes what is not known; closed by `close`.
            path: SQLite file; several processes may share it.
        """
        self._embedder = embedder
        self._path = path

    @property
    def encoder_id(self) -> str:
        """See `Embedder.encoder_id`."""
        return self._embedder.encoder_id

    async def load(self) -> None:
        """See `Embedder.load`."""
        await self._embedder.load()

    async def embed_query(self, text: str) -> Vectors:
        """See `Embedder.embed_query`."""
        return await self._embedder.embed_query(text)

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed_documents`."""
        keys = [self._key(text) for text in texts]
        known = await asyncio.to_thread(self._read, keys)
        unknown = [index for index, key in enumerate(keys) if key not in known]
        if unknown:
            fresh = await self._embedder.embed_documents([texts[index] for index in unknown])
            new = {keys[index]: vector for index, vector in zip(unknown, fresh, strict=True)}
            await asyncio.to_thread(self._write, new)
            known |= new
        return np.stack([known[key] for key in keys])

    async def close(self) -> None:
        """See `Embedder.close`."""
        await self._embedder.close()

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.encoder_id}\0{text}".encode()).digest()

    def _open(self) -> "closing[sqlite3.Connection]":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)
        try:
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = normal")
            database.execute(_SCHEMA)
        except sqlite3.Error:
            database.close()
            raise
        return closing(database)

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        marks = ",".join("?" * len(keys))
        try:
            with self._open() as database, database:
                rows = database.execute(
                    f"select key, vector from vectors where key in ({marks})",  # noqa: S608  # "?,?"
                    keys,
                ).fetchall()
                database.execute(
                    f"update vectors set used_at = ? where key in ({marks})",  # noqa: S608
                    (time.time(), *keys),
                )
        except (sqlite3.Error, OSError) as exc:
            log.warning("vector_cache_not_read", path=str(self._path), error=str(exc))
            return {}
        vectors = {
            key: np.frombuffer(blob, dtype="<f4") for key, blob in rows if len(blob) % 4 == 0
        }
        widths = {len(vector) for vector in vectors.values()}
        # Rows of several widths: some are damaged, and nothing says which.
        return vectors if len(widths) == 1 else {}

    def _write(self, vectors: dict[bytes, Vectors]) -> None:
        now = time.time()
        rows = [(key, vector.astype("<f4").tobytes(), now) for key, vector in vectors.items()]
        try:
            with self._open() as database, database:
                database.executemany("insert or replace into vectors values (?, ?, ?)", rows)
                database.execute("delete from vectors where used_at < ?", (now - _UNUSED_S,))
        except (sqlite3.Error, OSError) as exc:
            log.warning("vector_cache_not_written", path=str(self._path), error=str(exc))
