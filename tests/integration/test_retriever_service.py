import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, FailedPrecondition
from services.contracts.retriever import RetrieveRequest
from services.retriever.corpus import TextTemplate
from services.retriever.fusion import Fusion
from services.retriever.index.edge import EdgeStore
from services.retriever.service import RetrieverService
from tests.fakes.embedder import FakeEmbedder

pytestmark = pytest.mark.anyio
QUERY = RetrieveRequest(query="alpha")


def documents(*names: str) -> tuple[ApiDocument, ...]:
    return tuple(
        ApiDocument(
            ref=ApiRef(category="C", tool="t", api=name),
            category_name="C",
            tool_name="t",
            api_name=name,
        )
        for name in names
    )


@asynccontextmanager
async def opened(
    home: Path, embedder: FakeEmbedder, template: TextTemplate = TextTemplate.TOOLBENCH
) -> AsyncIterator[RetrieverService]:
    store = EdgeStore(home)
    service = RetrieverService(
        embedder=embedder,
        store=store,
        template=template,
        fusion=Fusion(k=5, sparse_weight=0.6),
        candidates=10,
        batch_size=1,
    )
    await service.start()
    try:
        yield service
    finally:
        await service.close()
        await store.close()


async def test_the_former_index_serves_while_the_next_is_built(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    async with opened(tmp_path, embedder) as service:
        first = await service.index(documents("alpha", "beta"))
        embedder.gate.clear()
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            building = group.create_task(service.index(documents("alpha", "gamma")))
            await asyncio.sleep(0.05)
            during = await service.retrieve(QUERY)
            assert not building.done()
            embedder.gate.set()
        after = await service.retrieve(QUERY)
    assert during.index_version == first.version
    assert after.index_version == building.result().version != first.version


async def test_searches_survive_a_swap_of_the_index_beneath_them(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEmbedder()) as service:
        await service.index(documents("alpha", "beta"))

        async def search_often() -> int:
            return sum([len((await service.retrieve(QUERY)).apis) for _ in range(50)])

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            searches = [group.create_task(search_often()) for _ in range(4)]
            for name in ("gamma", "delta", "epsilon"):
                await service.index(documents("alpha", name))
    assert [task.result() for task in searches] == [100] * 4


async def test_the_same_corpus_asked_for_twice_at_once_is_built_once(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    async with (
        opened(tmp_path, embedder) as service,
        asyncio.timeout(30),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(service.index(documents("alpha"))) for _ in range(3)]
    assert sorted(task.result().rebuilt for task in tasks) == [False, False, True]
    assert embedder.n_documents_embedded == 1


async def test_an_index_of_another_encoder_is_refused_by_both_names(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEmbedder("letters@1")) as service:
        await service.index(documents("alpha"))
    async with opened(tmp_path, FakeEmbedder("digits@2")) as service:
        with pytest.raises(FailedPrecondition) as refusal:
            await service.retrieve(QUERY)
        with pytest.raises(FailedPrecondition, match="digits@2"):
            await service.status()
        assert (await service.index(documents("alpha"))).rebuilt is True
        assert len((await service.retrieve(QUERY)).apis) == 1
    for part in ("letters@1", "digits@2", "toolwright index build"):
        assert part in refusal.value.detail


async def test_an_index_of_another_text_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEmbedder()) as service:
        await service.index(documents("alpha"))
    async with opened(tmp_path, FakeEmbedder(), TextTemplate.SHORT) as service:
        with pytest.raises(FailedPrecondition, match="toolbench-1.*short-1"):
            await service.retrieve(QUERY)


async def test_a_build_behind_another_stops_at_its_deadline(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    async with opened(tmp_path, embedder) as service, asyncio.TaskGroup() as group:
        embedder.gate.clear()
        first = group.create_task(service.index(documents("alpha")))
        await asyncio.sleep(0.05)
        with deadline_in(0.1), pytest.raises(DeadlineExceeded, match="another index"):
            await service.index(documents("beta"))
        embedder.gate.set()
    assert first.result().n_documents == 1
