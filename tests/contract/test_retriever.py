"""The cases every `Retriever` passes: embedded shard, Qdrant server's store, and over HTTP.

No Qdrant server runs in the tests: its store is driven through qdrant-client's local mode, which
implements the same calls in Python. What only a real server can show (network faults, replicas
building at once) is covered by the refused connection below, no further.
"""

import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.clients.retriever import HttpRetriever
from services.contracts.errors import (
    FailedPrecondition,
    InvalidArgument,
    PayloadTooLarge,
    Unavailable,
)
from services.contracts.retriever import Retriever, RetrieveRequest
from services.kit.app import create_app
from services.retriever import routes
from services.retriever.corpus import TextTemplate
from services.retriever.fusion import Fusion
from services.retriever.index.base import IndexStore
from services.retriever.index.edge import EdgeStore
from services.retriever.index.server import ServerStore
from services.retriever.service import RetrieverService
from tests.fakes.embedder import FakeEmbedder

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


def document(tool: str, api: str, description: str = "") -> ApiDocument:
    return ApiDocument(
        ref=ApiRef(category="Bench", tool=tool, api=api),
        category_name="Bench",
        tool_name=tool,
        api_name=api,
        description=description,
    )


DOCUMENTS = (
    document("weather", "forecast", "Weather forecast of a city for the coming days."),
    document("weather", "history", "Past temperatures measured at a station."),
    document("money", "convert", "Convert an amount between two currencies."),
    document("money", "loan", "Monthly payment of a loan with compound interest."),
    document("stars", "horoscope", "Daily horoscope for a zodiac sign."),
    document("films", "search", "Find a movie by its title."),
)


@asynccontextmanager
async def open_service(store: IndexStore) -> AsyncIterator[RetrieverService]:
    service = RetrieverService(
        embedder=FakeEmbedder(),
        store=store,
        template=TextTemplate.TOOLBENCH,
        fusion=Fusion(k=5, sparse_weight=0.6),
        candidates=100,
        batch_size=4,
    )
    await service.start()
    try:
        yield service
    finally:
        await service.close()
        await store.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free loopback port; yields its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)


@asynccontextmanager
async def edge(home: Path) -> AsyncIterator[Retriever]:
    async with open_service(EdgeStore(home)) as service:
        yield service


@asynccontextmanager
async def server_store(home: Path) -> AsyncIterator[Retriever]:
    client = AsyncQdrantClient(path=str(home))
    try:
        async with open_service(ServerStore(client, alias="apis")) as service:
            yield service
    finally:
        await client.close()


@asynccontextmanager
async def over_http(home: Path) -> AsyncIterator[Retriever]:
    app = create_app(
        title="test",
        routers=[routes.create_router()],
        open_service=lambda: open_service(EdgeStore(home)),
        check_ready=RetrieverService.check_ready,
    )
    with served(app) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            yield HttpRetriever(http)


@pytest.fixture(params=[edge, server_store, over_http], ids=["edge", "server", "http"])
async def retriever(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Retriever]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(request.param(tmp_path / "index"))


async def test_without_an_index_the_error_names_the_command(retriever: Retriever) -> None:
    assert await retriever.status() is None
    with pytest.raises(FailedPrecondition, match="toolwright index build"):
        await retriever.retrieve(RetrieveRequest(query="weather"))


async def test_the_fitting_api_is_first_with_the_scores_of_both_channels(
    retriever: Retriever,
) -> None:
    await retriever.index(DOCUMENTS)
    result = await retriever.retrieve(RetrieveRequest(query="converting currency amounts", top_k=2))
    best = result.apis[0]
    assert best.api == DOCUMENTS[2].ref
    assert best.score_parts.keys() == {"dense", "sparse"}
    assert 0 < best.score_parts["dense"] <= 1.0 + 1e-6
    assert [hit.rank for hit in result.apis] == [1, 2]


@pytest.mark.parametrize("top_k", [1, 5, 6, 100])
async def test_top_k_different_apis_come_back_as_far_as_there_are_any(
    retriever: Retriever, top_k: int
) -> None:
    await retriever.index(DOCUMENTS)
    result = await retriever.retrieve(RetrieveRequest(query="horoscope today", top_k=top_k))
    found = {hit.api for hit in result.apis}
    assert len(found) == len(result.apis) == min(top_k, len(DOCUMENTS))


async def test_a_query_of_stop_words_is_answered_by_the_dense_channel(retriever: Retriever) -> None:
    await retriever.index(DOCUMENTS)
    result = await retriever.retrieve(RetrieveRequest(query="what is this"))
    assert {name for hit in result.apis for name in hit.score_parts} == {"dense"}


async def test_indexing_twice_builds_once(retriever: Retriever) -> None:
    first = await retriever.index(DOCUMENTS)
    again = await retriever.index(tuple(reversed(DOCUMENTS)))
    assert (first.rebuilt, again.rebuilt) == (True, False)
    assert first.version == again.version
    assert (await retriever.status()).n_documents == len(DOCUMENTS)


async def test_another_corpus_replaces_the_index_and_the_first_can_come_back(
    retriever: Retriever,
) -> None:
    first = await retriever.index(DOCUMENTS)
    second = await retriever.index(DOCUMENTS[:2])
    assert second.version != first.version
    result = await retriever.retrieve(RetrieveRequest(query="movie title", top_k=6))
    assert {hit.api for hit in result.apis} == {d.ref for d in DOCUMENTS[:2]}
    assert result.index_version == second.version
    assert (await retriever.index(DOCUMENTS)).rebuilt is False


async def test_bad_requests_are_refused_by_name(retriever: Retriever) -> None:
    with pytest.raises(InvalidArgument, match="0 documents"):
        await retriever.index(())
    with pytest.raises(InvalidArgument, match="blank"):
        await retriever.retrieve(RetrieveRequest(query=" \n"))


@pytest.mark.parametrize("bad", [{"query": ""}, {"query": "x", "top_k": 0}, {"top_k": 10**9}])
def test_the_contract_bounds_a_request(bad: dict) -> None:
    with pytest.raises(ValidationError):
        RetrieveRequest.model_validate({"query": "x", **bad})


@pytest.mark.parametrize("opener", [edge, server_store], ids=["edge", "server"])
async def test_an_index_survives_its_process(opener, tmp_path: Path) -> None:
    async with opener(tmp_path) as retriever:
        built = await retriever.index(DOCUMENTS)
    async with opener(tmp_path) as retriever:
        status = await retriever.status()
        result = await retriever.retrieve(RetrieveRequest(query="zodiac"))
    assert (status.version, status.rebuilt) == (built.version, False)
    assert result.apis[0].api == DOCUMENTS[4].ref


async def test_both_stores_rank_alike(tmp_path: Path) -> None:
    request = RetrieveRequest(query="monthly interest of a movie loan", top_k=6)
    async with edge(tmp_path / "a") as one, server_store(tmp_path / "b") as other:
        await one.index(DOCUMENTS)
        await other.index(DOCUMENTS)
        ours, theirs = await one.retrieve(request), await other.retrieve(request)
    assert [hit.api for hit in ours.apis] == [hit.api for hit in theirs.apis]
    for mine, its in zip(ours.apis, theirs.apis, strict=True):
        assert mine.score_parts == pytest.approx(its.score_parts, abs=1e-4)


async def test_a_server_that_refuses_is_reported_as_unavailable() -> None:
    client = AsyncQdrantClient(url="http://127.0.0.1:9", timeout=2, check_compatibility=False)
    store = ServerStore(client, alias="apis")
    with pytest.raises(Unavailable, match="Qdrant"):
        await store.current()
    async with open_service(store) as service:
        with pytest.raises(Unavailable, match="Qdrant"):
            await service.retrieve(RetrieveRequest(query="weather"))
    await client.close()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"nonsense", "body"),
        (b'{"query": "x", "top_k": 0}', "top_k"),
        (b'{"query": "x", "top_k": 1000000000}', "less than or equal to 100"),
        (b'{"query": ""}', "query"),
        (b'{"query": "x", "k": 1}', "k"),
        (b'{"query": "' + b"x" * 32_769 + b'"}', "32768"),
    ],
)
async def test_a_bad_body_is_a_problem_that_names_field_and_limit(
    body: bytes, named: str, tmp_path: Path
) -> None:
    async with over_http(tmp_path) as retriever:
        response = await retriever._http.post("/v1/retrieve", content=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert named in response.json()["detail"]


async def test_documents_beyond_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MAX_INDEX_BODY_BYTES", 100)
    async with over_http(tmp_path) as retriever:
        with pytest.raises(PayloadTooLarge, match="100 bytes"):
            await retriever.index(DOCUMENTS)


async def test_health_answers_without_an_index(tmp_path: Path) -> None:
    async with over_http(tmp_path) as retriever:
        codes = [(await retriever._http.get(path)).status_code for path in ("/healthz", "/readyz")]
    assert codes == [200, 200]
