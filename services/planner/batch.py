"""Solves a whole query file over a planner, many at once, into answer files (`toolwright solve`).

A batch can be stopped at any moment and run again: a complete answer file is never redone, a
missing, partial or foreign one is. The runs have ids of their own, `run_id_of`, by which a planner
that keeps runs can go on where one stopped, see `services.planner.runs.Continuing`.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import JsonValue, ValidationError

from services.contracts.compat import TOOLBENCH, Compat
from services.contracts.errors import Internal, InvalidArgument, ServiceError, Unavailable
from services.contracts.ids import RunId
from services.contracts.methods import parse_method
from services.contracts.planner import Limits, Mode, Planner, RunEnded, SolveRequest
from services.contracts.toolbench.answer_file import is_answer_file
from services.contracts.toolbench.queries import Query
from services.kit.files import write_atomically

Outcome = Literal["answered", "gave_up", "exhausted", "cancelled", "failed", "skipped"]
BENCHMARK_LIMITS: Final = Limits(max_depth=50, max_llm_calls=200, max_observation_chars=1024)
"""StableToolBench's, which published numbers were made with."""


@dataclass(frozen=True, slots=True)
class QueryDone:
    """What came of one query."""

    query_id: int
    outcome: Outcome
    """`skipped`: its answer file was there already. `failed`: it has none now."""
    reason: str = ""
    llm_calls: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class BatchReport:
    """What came of a batch."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    failures: list[QueryDone] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Every query has its answer file."""
        return not self.failures

    def add(self, done: QueryDone) -> None:
        """Count one query."""
        self.counts[done.outcome] += 1
        if done.outcome == "failed":
            self.failures.append(done)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How every query of a batch is solved."""

    method: str
    output: Path
    """Folder of the answer files; made when it is missing."""
    limits: Limits = BENCHMARK_LIMITS
    compat: Compat = TOOLBENCH
    concurrency: int = 1
    open_domain: bool = False
    """Let the retriever choose, even where a query names its APIs."""
    top_k: int = 5
    seed: int = 0
    allow_writes: bool = False
    """Let the runs make calls that change something; under `execute_writes_freely` they may."""
    mode: Mode = "exact"
    prompts: str | None = None
    """Prompt profile; `None` leaves it to `compat`."""
    show_budget: bool = False


async def solve_queries(
    planner: Planner,
    queries: Sequence[Query],
    options: BatchOptions,
    *,
    on_done: Callable[[QueryDone], None] = lambda _: None,
) -> BatchReport:
    """Solve every query that has no complete answer file yet.

    A query that fails is reported and does not stop the others.

    Args:
        planner: Runs the searches.
        queries: What to solve, in the order in which runs are started.
        options: How to solve it.
        on_done: Called after each query, in the order in which they end.

    Raises:
        InvalidArgument: The method, the concurrency or the output folder is unusable.
    """
    method = parse_method(options.method).name
    if options.concurrency < 1:
        raise InvalidArgument(f"concurrency {options.concurrency} is below 1")
    _make_folder(options.output)
    report = BatchReport()
    pending = iter(queries)

    async def work(queue: Iterator[Query]) -> None:
        for query in queue:
            done = await _solve_one(planner, query, options, method)
            report.add(done)
            on_done(done)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(options.concurrency, len(queries))):
            group.create_task(work(pending))  # all take from the one iterator
    return report


def answer_path(options: BatchOptions, query_id: int) -> Path:
    """Where the answer to a query is stored."""
    return options.output / f"{query_id}_{parse_method(options.method).name}.json"


def run_id_of(query_id: int, method: str) -> RunId:
    """Under which a query's run is kept.

    Args:
        query_id: As in the query file.
        method: In its full form.
    """
    return RunId(f"{query_id}_{method}")


async def _solve_one(
    planner: Planner, query: Query, options: BatchOptions, method: str
) -> QueryDone:
    path = answer_path(options, query.query_id)
    if await asyncio.to_thread(is_answer_file, path, instruction=query.instruction):
        return QueryDone(query.query_id, "skipped")
    try:
        ended = await _run(planner, _request(query, options, method))
        if ended.kind == "failed":
            return QueryDone(query.query_id, "failed", ended.reason or "", ended.llm_calls)
        if ended.record is None:
            raise Internal(f"the planner sent no record: {ended.reason or ended.kind}")
        await asyncio.to_thread(_write, path, ended.record)
    except ServiceError as exc:
        return QueryDone(query.query_id, "failed", exc.detail)
    return QueryDone(query.query_id, ended.kind, ended.reason or "", ended.llm_calls, ended.seconds)


def _request(query: Query, options: BatchOptions, method: str) -> SolveRequest:
    try:
        return SolveRequest(
            instruction=query.instruction,
            method=method,
            apis=None if options.open_domain else query.apis,
            top_k=options.top_k,
            limits=options.limits,
            compat=options.compat,
            seed=options.seed,
            allow_writes=options.allow_writes,
            mode=options.mode,
            prompts=options.prompts,
            show_budget=options.show_budget,
            run_id=run_id_of(query.query_id, method),
            record=True,
        )
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgument(f"query {query.query_id}: {where}: {first['msg']}") from exc


async def _run(planner: Planner, request: SolveRequest) -> RunEnded:
    async with aclosing(planner.solve(request)) as events:
        async for event in events:
            if isinstance(event, RunEnded):
                return event
    raise Unavailable("the planner's events ended without a terminal one")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidArgument(f"output {str(folder)!r} cannot be made: {exc.strerror}") from exc


def _write(path: Path, record: dict[str, JsonValue]) -> None:
    """Write as a whole: a reader sees the complete file or none.

    Raises:
        Unavailable: The disk refuses.
        Internal: The tree is nested too deeply.
    """
    try:
        text = json.dumps(record, indent=2)
    except RecursionError as exc:
        raise Internal(f"{path}: the tree is too deep for JSON; lower max_depth") from exc
    write_atomically(path, text.encode())
