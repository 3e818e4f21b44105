"""The index follows a catalogue that changes by itself."""

import asyncio

import pytest

from infra.embedded.following import following
from services.contracts.apis import ApiDocument
from services.contracts.errors import Unavailable
from services.contracts.retriever import IndexStatus
from tests.fakes.planner_ports import HELLO, OTHER, FakeRetriever, FakeToolEnv, document

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]
PERIOD_S = 0.01


class Catalogue(FakeToolEnv):
    """A tool environment whose documents a test may change."""

    documents: tuple[ApiDocument, ...] = (document(HELLO),)

    async def catalogue(self) -> list[ApiDocument]:
        return list(self.documents)


class Index(FakeRetriever):
    """Keeps what it was given; fails as often as it is told."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__([])
        self.indexed: list[tuple[ApiDocument, ...]] = []
        self.asked = asyncio.Event()
        self._failures = failures

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        self._failures -= 1
        if self._failures >= 0:
            raise Unavailable("the disk is full")
        self.indexed.append(documents)
        self.asked.set()
        return IndexStatus(version="2", n_documents=1, encoder="fake", rebuilt=True, seconds=0)


async def test_a_change_is_indexed_once_and_no_change_never() -> None:
    tools, index = Catalogue(), Index()
    async with following(index, tools, tools.documents, period_s=PERIOD_S):
        await asyncio.sleep(10 * PERIOD_S)
        assert index.indexed == []
        tools.documents = (document(HELLO), document(OTHER))
        await asyncio.wait_for(index.asked.wait(), 5)
        await asyncio.sleep(10 * PERIOD_S)
    assert index.indexed == [tools.documents]


async def test_a_change_that_cannot_be_indexed_is_tried_again() -> None:
    tools, index = Catalogue(), Index(failures=2)
    async with following(index, tools, (), period_s=PERIOD_S):
        await asyncio.wait_for(index.asked.wait(), 5)
    assert index.indexed == [tools.documents]


async def test_an_error_of_the_block_passes_through_unchanged() -> None:
    tools = Catalogue()
    with pytest.raises(Unavailable, match="elsewhere"):
        async with following(Index(), tools, tools.documents, period_s=PERIOD_S):
            raise Unavailable("elsewhere")
