"""Documents are encoded once, and never wrongly because of the cache."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from services.retriever.vector_cache import CachedEmbedder

pytestmark = pytest.mark.anyio


class CountingEmbedder:
    """Encodes a text as its length and keeps what it was asked for."""

    def __init__(self, encoder_id: str = "one") -> None:
        self.encoder_id = encoder_id
        self.asked: list[str] = []

    async def load(self) -> None:
        return

    async def embed_query(self, text: str) -> np.ndarray:
        return np.array([len(text), 1], dtype=np.float32)

    async def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    async def close(self) -> None:
        return


async def encode(path: Path, texts: Sequence[str], encoder_id: str = "one") -> list[str]:
    """What a new process had to encode; the vectors themselves are checked."""
    embedder = CountingEmbedder(encoder_id)
    vectors = await CachedEmbedder(embedder, path).embed_documents(texts)
    assert vectors.tolist() == [[len(text), 1] for text in texts]
    return embedder.asked


async def test_only_new_texts_are_encoded_and_rows_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "vectors.db"
    assert await encode(path, ["a", "bb"]) == ["a", "bb"]
    assert await encode(path, ["ccc", "a", "bb", "a"]) == ["ccc"]


async def test_another_encoder_gets_vectors_of_its_own(tmp_path: Path) -> None:
    await encode(tmp_path / "vectors.db", ["a"])
    assert await encode(tmp_path / "vectors.db", ["a"], "two") == ["a"]


async def test_a_file_that_is_no_database_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / "vectors.db"
    path.write_bytes(b"not a database, but long enough to be one" * 50)
    assert await encode(path, ["a"]) == ["a"]


async def test_a_damaged_row_is_encoded_again(tmp_path: Path) -> None:
    path = tmp_path / "vectors.db"
    await encode(path, ["a", "bb"])
    cache = CachedEmbedder(CountingEmbedder(), path)
    with cache._open() as database, database:
        database.execute("update vectors set vector = x'00' where key = ?", (cache._key("a"),))
    assert await encode(path, ["a", "bb"]) == ["a"]
    with cache._open() as database, database:
        database.execute(
            "update vectors set vector = x'00000000' where key = ?", (cache._key("a"),)
        )
    assert sorted(await encode(path, ["a", "bb"])) == ["a", "bb"]
