"""Batches: files, resuming, failures."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.contracts.compat import NONE
from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import Limits, PlanEvent, SolveRequest
from services.contracts.toolbench.queries import Query
from services.planner.batch import BatchOptions, BatchReport, solve_queries
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeRetriever,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    reply,
)

pytestmark = pytest.mark.anyio

QUERIES = [Query(query_id=n, instruction=f"ask {n}", apis=(HELLO,)) for n in range(5)]


def echo(request: ChatRequest) -> Message:
    return answer(f"to {request.messages[1].content.strip()}")


class CountingPlanner:
    """A real planner that fails for some instructions and knows how many ran at once."""

    def __init__(self, *, failing: str = "", raising: str = "") -> None:
        self.asked: list[str] = []
        self.most_at_once = 0
        self._now = 0
        self._failing, self._raising = failing, raising

    async def solve(self, request: SolveRequest) -> AsyncIterator[PlanEvent]:
        self.asked.append(request.instruction)
        if request.instruction == self._raising:
            raise Unavailable("the planner is gone")
        error = Unavailable("the model is gone")
        replies = [error] if request.instruction == self._failing else echo
        model = ScriptedModel(replies, delay_s=0.01)
        service = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            async for event in service.solve(request):
                yield event
        finally:
            self._now -= 1


async def solve(planner: CountingPlanner, folder: Path, **options: object) -> BatchReport:
    async with asyncio.timeout(20):
        return await solve_queries(
            planner, QUERIES, BatchOptions(method="dfsdt", output=folder, **options)
        )


async def test_each_query_gets_its_answer_file(tmp_path: Path) -> None:
    report = await solve(CountingPlanner(), tmp_path / "new" / "folder")
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert files == [f"{n}_DFS_woFilter_w2.json" for n in range(5)]
    assert report.counts == {"answered": 5}
    content = json.loads((tmp_path / "new" / "folder" / files[3]).read_text())
    assert content["answer_generation"]["query"] == "ask 3"
    assert content["forward_args"]["single_chain_max_step"] == 50


async def test_what_is_done_is_not_done_again_and_broken_files_are(tmp_path: Path) -> None:
    await solve(CountingPlanner(), tmp_path)
    whole = (tmp_path / "1_DFS_woFilter_w2.json").read_text()
    (tmp_path / "0_DFS_woFilter_w2.json").unlink()
    (tmp_path / "1_DFS_woFilter_w2.json").write_text(whole[: len(whole) // 2])
    (tmp_path / "2_DFS_woFilter_w2.json").write_text("{}")
    (tmp_path / "3_DFS_woFilter_w2.json").write_text(whole)  # of another query
    planner = CountingPlanner()
    report = await solve(planner, tmp_path)
    assert planner.asked == ["ask 0", "ask 1", "ask 2", "ask 3"]
    assert report.counts == {"answered": 4, "skipped": 1}
    assert (tmp_path / "1_DFS_woFilter_w2.json").read_text() == whole


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_one_failed_query_stops_no_other(tmp_path: Path, concurrency: int) -> None:
    planner = CountingPlanner(failing="ask 1", raising="ask 3")
    report = await solve(planner, tmp_path, concurrency=concurrency)
    assert report.counts == {"answered": 3, "failed": 2}
    assert not report.is_complete
    assert sorted((done.query_id, done.reason) for done in report.failures) == [
        (1, "the model is gone"),
        (3, "the planner is gone"),
    ]
    assert len(os.listdir(tmp_path)) == 3


async def test_as_many_runs_go_on_at_once_as_asked_for(tmp_path: Path) -> None:
    planner = CountingPlanner()
    await solve(planner, tmp_path, concurrency=3)
    assert planner.most_at_once == 3


async def test_a_stopped_batch_leaves_no_half_written_file(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await solve(CountingPlanner(), tmp_path)
    report = await solve(CountingPlanner(), tmp_path)
    assert sum(report.counts.values()) == 5
    assert report.is_complete


async def test_an_instruction_too_long_is_reported_not_raised(tmp_path: Path) -> None:
    queries = [Query(query_id=1, instruction="x" * 40_000, apis=(HELLO,)), QUERIES[2]]
    report = await solve_queries(
        CountingPlanner(), queries, BatchOptions(method="cot", output=tmp_path)
    )
    assert report.counts == {"failed": 1, "answered": 1}
    assert "query 1: instruction" in report.failures[0].reason


async def test_open_domain_ignores_the_apis_of_the_file(tmp_path: Path) -> None:
    retriever = FakeRetriever([HELLO])
    service = PlannerService(model=ScriptedModel(echo), toolenv=FakeToolEnv(), retriever=retriever)
    options = BatchOptions(
        method="CoT@1", output=tmp_path, open_domain=True, top_k=7, compat=NONE, limits=Limits()
    )
    await solve_queries(service, QUERIES[:1], options)
    assert retriever.requests[0].top_k == 7


@pytest.mark.parametrize("allow_writes", [True, False])
async def test_runs_may_change_something_only_when_the_batch_may(
    tmp_path: Path, allow_writes: bool
) -> None:
    toolenv = FakeToolEnv([document(HELLO, method="POST")])
    model = ScriptedModel([reply((HELLO_NAME, "{}")), answer("done")])
    service = PlannerService(model=model, toolenv=toolenv, retriever=None)
    options = BatchOptions(method="CoT@1", output=tmp_path, compat=NONE, allow_writes=allow_writes)
    await solve_queries(service, QUERIES[:1], options)
    assert len(toolenv.calls) == allow_writes


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"method": "NOPE"}])
async def test_bad_options_are_refused_before_the_first_query(
    tmp_path: Path, options: dict[str, object]
) -> None:
    planner = CountingPlanner()
    given: dict[str, object] = {"method": "CoT@1", "output": tmp_path, **options}
    with pytest.raises(InvalidArgument):
        await solve_queries(planner, QUERIES, BatchOptions(**given))
    assert planner.asked == []


async def test_an_output_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidArgument, match="taken"):
        await solve(CountingPlanner(), tmp_path / "taken")


async def test_a_file_that_cannot_be_written_fails_its_query(
    tmp_path: Path,
) -> None:
    (tmp_path / "2_DFS_woFilter_w2.json").mkdir()  # a name that cannot be replaced by a file
    report = await solve(CountingPlanner(), tmp_path)
    assert [done.query_id for done in report.failures] == [2]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
