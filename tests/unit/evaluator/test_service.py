"""Outcomes of runs: what is the model's doing, what is not, and what is tried again."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.contracts.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.contracts.evaluator import ExpectedAnswer
from services.contracts.llm import Usage
from services.contracts.planner import ExpansionStarted, Limits, PlanEvent, RunEnded, SolveRequest
from services.evaluator import service as service_module
from services.evaluator.results import ResultStore
from services.evaluator.service import EvaluatorService
from tests.fakes.evaluation import result, sample

pytestmark = pytest.mark.anyio


class Played:
    """A planner that yields what it is told, and keeps the requests and whether it was closed."""

    def __init__(self, *events: PlanEvent, error: Exception | None = None) -> None:
        self.requests: list[SolveRequest] = []
        self.closed = 0
        self._events, self._error = events, error

    async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        self.requests.append(request)
        try:
            for event in self._events:
                yield event
            if self._error is not None:
                raise self._error
        finally:
            self.closed += 1


def ended(kind: str = "answered", **changes: object) -> RunEnded:
    return RunEnded.model_validate({"kind": kind} | changes)


def failed(error: ServiceError) -> RunEnded:
    return ended("failed", problem=error.to_problem())


def expansion(node_id: int, number: int) -> ExpansionStarted:
    return ExpansionStarted(
        node_id=node_id, expansion=number, depth=0, base_node_id=None, messages=()
    )


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        (ended(answer="Hello!"), "passed", ""),
        (ended(answer="Bye"), "failed", "the answer does not contain 'hello'"),
        (ended("gave_up"), "failed", "no answer was given"),
        (ended("exhausted", answer="hello"), "failed", "no answer was given"),
        (failed(Internal("a bug")), "infrastructure_error", "internal: a bug"),
        (ended("failed", reason="odd"), "infrastructure_error", "odd"),
    ],
)
async def test_a_run_has_an_outcome(
    tmp_path: Path, end: RunEnded, outcome: str, reason: str
) -> None:
    store = ResultStore(tmp_path)
    found = await EvaluatorService(planner=Played(end), results=store).run_sample(sample())
    assert (found.outcome, found.reason, found.run) == (outcome, reason, end.kind)
    assert store.read("c", found.sample_id) == found


@pytest.mark.parametrize(
    ("planner", "error"),
    [
        (Played(error=Unavailable("gone")), Unavailable),
        (Played(failed(Unavailable("no model"))), Unavailable),
        (Played(failed(ResourceExhausted("full"))), ResourceExhausted),
        (Played(ended("cancelled")), Unavailable),
        (Played(), Internal),
        (Played(expansion(0, 1), error=Unavailable("broke off")), Unavailable),
    ],
)
async def test_what_may_pass_is_raised_and_leaves_no_result(
    tmp_path: Path, planner: Played, error: type[ServiceError]
) -> None:
    store = ResultStore(tmp_path)
    with pytest.raises(error):
        await EvaluatorService(planner=planner, results=store).run_sample(sample())
    assert store.sample_ids("c") == set()
    assert planner.closed == 1


async def test_a_judged_sample_is_not_run_again(tmp_path: Path) -> None:
    planner = Played(ended(answer="hello"))
    service = EvaluatorService(planner=planner, results=ResultStore(tmp_path))
    assert await service.run_sample(sample()) == await service.run_sample(sample())
    assert len(planner.requests) == 1


async def test_an_infrastructure_error_is_run_again(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.write(result(outcome="infrastructure_error"))
    service = EvaluatorService(planner=Played(ended(answer="hello")), results=store)
    assert (await service.run_sample(sample())).outcome == "passed"


async def test_a_result_that_came_first_is_the_one_returned(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)

    class Slow(Played):
        async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
            store.write(result(outcome="failed", reason="somebody was faster"))
            yield ended(answer="hello")

    found = await EvaluatorService(planner=Slow(), results=store).run_sample(sample())
    assert found.reason == "somebody was faster"


async def test_costs_and_back_tracking_are_kept(tmp_path: Path) -> None:
    end = ended(
        answer="hello",
        llm_calls=3,
        tool_calls=2,
        seconds=1.5,
        usage=Usage(prompt_tokens=10, completion_tokens=5),
        record={"a": 1},
    )
    planner = Played(expansion(0, 1), expansion(4, 2), expansion(0, 3), end)
    service = EvaluatorService(planner=planner, results=ResultStore(tmp_path))
    found = await service.run_sample(sample())
    assert found.backtracked
    assert (found.llm_calls, found.tool_calls, found.seconds, found.total_tokens) == (3, 2, 1.5, 15)
    assert found.record == {"a": 1}


async def test_a_chain_without_return_is_no_back_tracking(tmp_path: Path) -> None:
    planner = Played(expansion(0, 1), expansion(4, 2), ended(answer="hello"))
    service = EvaluatorService(planner=planner, results=ResultStore(tmp_path))
    assert not (await service.run_sample(sample())).backtracked


async def test_the_planner_gets_the_whole_sample_and_is_asked_for_the_record(
    tmp_path: Path,
) -> None:
    planner = Played(ended(answer="hello"))
    limits = Limits(max_depth=3)
    service = EvaluatorService(planner=planner, results=ResultStore(tmp_path))
    await service.run_sample(sample(limits=limits, seed=5, top_k=9, method="CoT@2"))
    (request,) = planner.requests
    assert (request.limits, request.seed, request.top_k) == (limits, 5, 9)
    assert (request.method, request.record) == ("CoT@2", True)


async def test_a_planner_that_never_ends_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_GRACE_S", 0.05)

    class Endless(Played):
        async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
            self.requests.append(request)
            try:
                while True:
                    yield expansion(0, 1)
                    await asyncio.sleep(0.01)
            finally:
                self.closed += 1

    planner = Endless()
    service = EvaluatorService(planner=planner, results=ResultStore(tmp_path))
    with pytest.raises(DeadlineExceeded, match="did not end"):
        await service.run_sample(sample(limits=Limits(deadline_s=0.05)))
    assert planner.closed == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"expected": ExpectedAnswer()}, "expected answer"),
        ({"instruction": ""}, "instruction"),
        ({"sample_id": "../../x"}, "sample id"),
    ],
)
async def test_a_bad_sample_is_refused_before_it_is_solved(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    planner = Played(ended(answer="hello"))
    service = EvaluatorService(planner=planner, results=ResultStore(tmp_path))
    with pytest.raises(InvalidArgument, match=named):
        await service.run_sample(sample(**changes))
    assert planner.requests == []
