"""Runs samples: solve through the planner, judge, write the one result."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from services.contracts.context import deadline_in
from services.contracts.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    from_problem,
)
from services.contracts.evaluator import Report, Sample, SampleResult
from services.contracts.planner import ExpansionStarted, Planner, RunEnded, SolveRequest
from services.evaluator.judge import check_judgeable, judge
from services.evaluator.report import summarise
from services.evaluator.results import ResultStore

_GRACE_S = 15.0  # a planner that ends a run at its deadline still has to write the record


@dataclass(slots=True)
class _Run:
    """What is kept of a run's events."""

    ended: RunEnded | None = None
    expanded: set[int] = field(default_factory=set)
    backtracked: bool = False


class EvaluatorService:
    """See `Evaluator`."""

    def __init__(self, *, planner: Planner, results: ResultStore) -> None:
        self._planner = planner
        self._results = results

    async def run_sample(self, sample: Sample) -> SampleResult:
        """See `Evaluator.run_sample`."""
        check_judgeable(sample.expected)
        stored = await asyncio.to_thread(self._results.read, sample.campaign, sample.sample_id)
        if stored is not None and stored.outcome != "infrastructure_error":
            return stored
        result = _judged(sample, await self._solve(sample))
        if await asyncio.to_thread(self._results.write, result):
            return result
        first = await asyncio.to_thread(self._results.read, sample.campaign, sample.sample_id)
        return first or result

    async def report(self, campaign: str) -> Report:
        """See `Evaluator.report`."""
        return await asyncio.to_thread(
            lambda: summarise(campaign, self._results.campaign(campaign))
        )

    async def _solve(self, sample: Sample) -> _Run:
        """Watch a run to its end.

        Raises:
            ServiceError: The planner could not be reached, overstayed or broke its contract.
        """
        limit_s = sample.limits.deadline_s + _GRACE_S
        run = _Run()
        try:
            with deadline_in(limit_s):
                async with asyncio.timeout(limit_s):
                    await self._watch(sample, run)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"the planner did not end the run in {limit_s} s") from exc
        return run

    async def _watch(self, sample: Sample, run: _Run) -> None:
        async with aclosing(self._planner.solve(_request(sample))) as events:
            async for event in events:
                if isinstance(event, ExpansionStarted):
                    run.backtracked |= event.node_id in run.expanded
                    run.expanded.add(event.node_id)
                elif isinstance(event, RunEnded):
                    run.ended = event


def _request(sample: Sample) -> SolveRequest:
    try:
        return SolveRequest(
            instruction=sample.instruction,
            method=sample.method,
            apis=sample.apis,
            top_k=sample.top_k,
            limits=sample.limits,
            seed=sample.seed,
            record=True,
        )
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InvalidArgument(f"{first['loc'][0]}: {first['msg']}") from exc


def _judged(sample: Sample, run: _Run) -> SampleResult:
    """The result of a run.

    Raises:
        Unavailable: A service was away or restarting; the sample may succeed later.
        ResourceExhausted: A service was full; likewise.
        Internal: The run has no end.
    """
    ended = run.ended
    if ended is None:
        raise Internal("the planner ended a run without a terminal event")
    outcome: Literal["passed", "failed", "infrastructure_error"]
    if ended.kind in {"failed", "cancelled"}:
        _raise_if_passing(ended)
        outcome, reason = "infrastructure_error", _cause(ended)
    else:
        verdict = judge(ended.answer if ended.kind == "answered" else None, sample.expected)
        outcome, reason = ("passed" if verdict.passed else "failed"), verdict.reason
    return SampleResult(
        sample_id=sample.sample_id,
        campaign=sample.campaign,
        method=sample.method,
        query_id=sample.query_id,
        outcome=outcome,
        run=ended.kind,
        answer=ended.answer,
        reason=reason,
        backtracked=run.backtracked,
        llm_calls=ended.llm_calls,
        tool_calls=ended.tool_calls,
        total_tokens=ended.usage.total_tokens,
        seconds=ended.seconds,
        record=ended.record,
    )


def _raise_if_passing(ended: RunEnded) -> None:
    if ended.kind == "cancelled":
        raise Unavailable("the planner cancelled the run: it is shutting down")
    error = from_problem(ended.problem) if ended.problem else None
    if isinstance(error, Unavailable | ResourceExhausted):
        raise error


def _cause(ended: RunEnded) -> str:
    if ended.problem is not None:
        return f"{ended.problem.code}: {ended.problem.detail}"
    return ended.reason or ended.kind
