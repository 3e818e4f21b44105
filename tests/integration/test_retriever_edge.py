from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import FailedPrecondition
from services.retriever.index.base import IndexMeta, IndexPoint, identify
from services.retriever.index.edge import EdgeStore
from services.retriever.lexical import SparseTerms

pytestmark = pytest.mark.anyio


def meta(version: str, n_documents: int = 3) -> IndexMeta:
    return IndexMeta(version=version, encoder_id="e", text_id="t", n_documents=n_documents)


def point(number: int) -> IndexPoint:
    return IndexPoint(
        ref=ApiRef(category="C", tool="t", api=f"a{number}"),
        dense=np.eye(4, dtype=np.float32)[number],
        sparse=SparseTerms(ids=(7, 100 + number), weights=(1.0, 2.0)),
    )


async def batches(broken: bool = False) -> AsyncIterator[Sequence[IndexPoint]]:
    yield [point(0), point(1)]
    while broken:
        raise FailedPrecondition("the encoder broke off")
    yield [point(2)]


async def test_points_are_found_by_either_channel(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    index = await store.build(meta("v1"), batches())
    words = SparseTerms(ids=(102,), weights=(1.0,))
    found = await index.search(np.eye(4, dtype=np.float32)[1], words, limit=2)
    assert (found.dense[0].ref.api, found.sparse[0].ref.api) == ("a1", "a2")
    assert found.dense[0].score == pytest.approx(1.0)
    # N = 3, n = 1: Qdrant's inverse document frequency times the stored weight
    assert found.sparse[0].score == pytest.approx(2.0 * np.log(1 + 2.5 / 1.5), rel=1e-4)
    await index.close()
    await store.close()


async def test_a_build_that_fails_leaves_the_former_index_in_force(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    await (await store.build(meta("v1"), batches())).close()
    with pytest.raises(FailedPrecondition, match="broke off"):
        await store.build(meta("v2"), batches(broken=True))
    index = await store.current()
    assert index is not None
    assert index.meta.version == "v1"
    assert await store.open("v2") is None
    await index.close()
    await store.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_the_version_in_force_and_its_predecessor_are_kept(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    for version in ("v1", "v2", "v3"):
        await (await store.build(meta(version), batches())).close()
    await store.close()
    assert names(tmp_path) == ["current", "lock", "v2", "v3"]


async def test_a_second_opener_is_told_who_has_it_open(tmp_path: Path) -> None:
    first, second = EdgeStore(tmp_path), EdgeStore(tmp_path)
    assert await first.current() is None
    with pytest.raises(FailedPrecondition, match=r"open in process \d+.*TOOLWRIGHT_HOME"):
        await second.current()
    await first.close()
    assert await second.current() is None
    await second.close()


def damage_vectors(version: Path) -> None:
    vectors = next(version.rglob("chunk_0.mmap"))
    vectors.write_bytes(b"\x7f" * vectors.stat().st_size)


def truncate_ids(version: Path) -> None:
    ids = next(version.rglob("mutable_id_tracker.mappings"))
    ids.write_bytes(ids.read_bytes()[: ids.stat().st_size // 2])


def lose_a_file(version: Path) -> None:
    next(version.rglob("segment.json")).unlink()


def garble_meta(version: Path) -> None:
    (version / "meta.json").write_text("{", encoding="utf-8")


def garble_config(version: Path) -> None:
    (version / "shard" / "edge_config.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    "damage", [damage_vectors, truncate_ids, lose_a_file, garble_meta, garble_config]
)
async def test_a_damaged_index_is_refused_and_built_again(tmp_path: Path, damage) -> None:
    store = EdgeStore(tmp_path)
    await (await store.build(meta("v1"), batches())).close()
    damage(tmp_path / "v1")
    with pytest.raises(FailedPrecondition, match="v1.*toolwright index build"):
        await store.current()
    assert await store.open("v1") is None
    await (await store.build(meta("v1"), batches())).close()
    index = await store.current()
    assert index is not None
    await index.close()
    await store.close()


async def test_an_index_needs_a_document(tmp_path: Path) -> None:
    async def nothing() -> AsyncIterator[Sequence[IndexPoint]]:
        for batch in ():
            yield batch

    store = EdgeStore(tmp_path)
    with pytest.raises(FailedPrecondition, match="at least one document"):
        await store.build(meta("v1"), nothing())
    await store.close()


def test_the_version_depends_on_corpus_encoder_and_text() -> None:
    base = {"corpus_digest": "c", "encoder_id": "e", "text": "t"}
    versions = {
        identify(**{**base, **change}, n_documents=1).version
        for change in ({}, {"corpus_digest": "x"}, {"encoder_id": "x"}, {"text": "x"})
    }
    assert len(versions) == 4
    assert all(len(version) == 16 for version in versions)
