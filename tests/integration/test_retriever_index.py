"""The real encoder and the real shard over real tool documents."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from services.contracts.apis import ApiDocument
from services.contracts.errors import FailedPrecondition, Unavailable
from services.contracts.retriever import RetrieveRequest
from services.kit.settings import SharedSettings
from services.retriever.bootstrap import open_retriever
from services.retriever.embedder import SentenceEncoder
from services.retriever.service import RetrieverService
from services.retriever.settings import RetrieverSettings
from tests.fakes.toolbench_documents import load_documents

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
BUNDLED_TOOLS = REPOSITORY / "data" / "toolenv" / "tools"
MAX_REOPEN_S = 1.0
MAX_RETRIEVE_P50_S = 0.25  # 16 ms on two idle cores; tests share them with others


def opened(home: Path) -> AbstractAsyncContextManager[RetrieverService]:
    return open_retriever(RetrieverSettings(), SharedSettings(toolwright_home=home))


async def reopen_s(home: Path) -> float:
    """Best of three: seconds from start to an index in force."""
    seconds = []
    for _ in range(3):
        async with opened(home) as service:
            seconds.append((await service.status()).seconds)
    return min(seconds)


async def retrieve_p50_s(service: RetrieverService, n: int = 40) -> float:
    seconds = []
    for number in range(n):
        started = time.perf_counter()
        await service.retrieve(RetrieveRequest(query=f"weather in {number} cities of a country"))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


async def measure(documents: tuple[ApiDocument, ...], home: Path) -> None:
    async with opened(home) as service:
        await service.check_ready()
        built = await service.index(documents)
        p50_s = await retrieve_p50_s(service)
    reopened_s = await reopen_s(home)
    print(
        f"\n{built.n_documents} APIs: built in {built.seconds:.1f} s, reopened in "
        f"{reopened_s:.2f} s, retrieve p50 {p50_s * 1e3:.1f} ms"
    )
    assert built.rebuilt
    assert reopened_s < MAX_REOPEN_S
    assert p50_s < MAX_RETRIEVE_P50_S


@pytest.fixture
def bundled() -> tuple[ApiDocument, ...]:
    documents = load_documents(BUNDLED_TOOLS)
    assert documents, f"no tool documents in {BUNDLED_TOOLS}"
    return documents


async def test_the_bundled_tools_are_indexed_once_and_reopened_in_under_a_second(
    bundled: tuple[ApiDocument, ...], tmp_path: Path
) -> None:
    await measure(bundled, tmp_path)


@pytest.mark.measurement
async def test_the_published_documents_are_reopened_in_under_a_second(
    shared_data: Path, tmp_path: Path
) -> None:
    await measure(load_documents(shared_data / "toolbench" / "tools"), tmp_path)


_BUILDER = """
import asyncio, sys, time
from pathlib import Path
from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import ServiceError
from services.kit.logging import configure_logging
from services.retriever.corpus import TextTemplate
from services.retriever.fusion import Fusion
from services.retriever.index.edge import EdgeStore
from services.retriever.service import RetrieverService
from tests.fakes.embedder import FakeEmbedder

class Stalling(FakeEmbedder):
    async def embed_documents(self, texts):
        if self.n_documents_embedded >= int(sys.argv[2]):
            print("stalled", flush=True)
            await asyncio.sleep(60)
        return await super().embed_documents(texts)

def document(name):
    ref = ApiRef(category="C", tool="t", api=name)
    return ApiDocument(ref=ref, category_name="C", tool_name="t", api_name=name)

async def main():
    configure_logging("ERROR")
    service = RetrieverService(embedder=Stalling(), store=EdgeStore(Path(sys.argv[1])),
        template=TextTemplate.TOOLBENCH, fusion=Fusion(k=5, sparse_weight=0.6),
        candidates=10, batch_size=1)
    await service.start()
    try:
        print(await service.status(), flush=True)
        print((await service.index(tuple(map(document, sys.argv[3:])))).version, flush=True)
    except ServiceError as exc:
        print(exc.code, exc.detail, flush=True)
    await service.close()

asyncio.run(main())
"""


def builder(home: Path, *, stall_after: int, apis: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _BUILDER, str(home), str(stall_after), *apis],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finished_lines(home: Path, apis: list[str]) -> list[str]:
    with builder(home, stall_after=1000, apis=apis) as process:
        output, _ = process.communicate(timeout=60)
    return output.splitlines()


def test_a_build_that_is_killed_leaves_the_former_index_in_force(tmp_path: Path) -> None:
    first_version = finished_lines(tmp_path, ["one", "two"])[-1]
    with builder(tmp_path, stall_after=2, apis=["one", "two", "three"]) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[1] == "stalled\n"
        assert list(tmp_path.glob("building-*/shard")) != []
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
    status, second_version = finished_lines(tmp_path, ["one", "two", "three"])
    assert first_version in status
    assert second_version != first_version
    assert list(tmp_path.glob("building-*")) == []


@pytest.fixture
async def built_home(
    bundled: tuple[ApiDocument, ...], tmp_path: Path
) -> AsyncIterator[tuple[Path, tuple[ApiDocument, ...]]]:
    async with opened(tmp_path) as service:
        await service.index(bundled[:8])
    yield tmp_path, bundled[:8]


async def test_a_damaged_index_is_reported_and_indexing_mends_it(
    built_home: tuple[Path, tuple[ApiDocument, ...]],
) -> None:
    home, documents = built_home
    next((home / "index").rglob("chunk_0.mmap")).write_bytes(b"damaged")
    async with opened(home) as service:
        with pytest.raises(FailedPrecondition, match="toolwright index build"):
            await service.retrieve(RetrieveRequest(query="weather"))
        assert (await service.index(documents)).rebuilt is True
        result = await service.retrieve(RetrieveRequest(query=documents[3].api_name, top_k=8))
    assert len(result.apis) == len(documents)


async def test_a_second_process_on_the_same_home_is_told_so(
    built_home: tuple[Path, tuple[ApiDocument, ...]],
) -> None:
    home, documents = built_home
    async with opened(home):
        lines = finished_lines(home / "index", [documents[0].ref.api])
    assert lines[0].startswith("failed_precondition")
    assert f"open in process {os.getpid()}" in lines[0]


async def test_a_broken_model_is_reported_by_the_first_use(tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json", "modules.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    encoder = SentenceEncoder(folder=tmp_path, name="broken", max_waiting=1, cache_size=0)
    encoder.begin_loading()
    with pytest.raises(Unavailable, match="broken@"):
        await encoder.embed_query("x")
    await encoder.close()
