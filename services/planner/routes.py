"""HTTP face of the planner."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from services.contracts.base import ForeignModel
from services.contracts.ids import RunId
from services.contracts.methods import ALIASES
from services.contracts.planner import (
    RUN_ID_PATTERN,
    Decision,
    ForkRequest,
    PlanEvent,
    RunEnded,
    RunSummary,
    SolveRequest,
)
from services.kit.app import parse_body, until_disconnect
from services.kit.streaming import ndjson
from services.planner.record import fitted_to_wire
from services.planner.search.methods import MethodInfo, described
from services.planner.service import PlannerService

router = APIRouter(prefix="/v1", tags=["planner"])

_SOLVE = TypeAdapter(SolveRequest)
_FORK = TypeAdapter(ForkRequest)
_DECISION = TypeAdapter(Decision)
_NDJSON: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-ndjson": {}}}}
_RunIdPath = Annotated[str, Path(pattern=RUN_ID_PATTERN)]


class Methods(ForeignModel):
    """Names that `SolveRequest.method` takes."""

    methods: tuple[str, ...]
    """One name of each kind; where a name ends in a number, others work too."""
    aliases: dict[str, str]
    described: tuple[MethodInfo, ...]


def _service(request: Request) -> PlannerService:
    # Holds because `app` gives this router's application no other service.
    return cast(PlannerService, request.state.service)


@router.post("/solve", response_class=StreamingResponse, responses=_NDJSON)
async def solve(request: Request) -> StreamingResponse:
    """Solve one `SolveRequest`; one `PlanEvent` per line."""
    return await _events(request, _service(request).solve(await parse_body(request, _SOLVE)))


@router.post("/runs/{run_id}/cancel")
async def cancel(request: Request, run_id: _RunIdPath) -> None:
    """End a run that waits or works; its reader gets a `cancelled` event."""
    await _service(request).cancel(RunId(run_id))


@router.post("/runs/{run_id}/calls/{call_id}")
async def decide(request: Request, run_id: _RunIdPath, call_id: Annotated[int, Path(ge=1)]) -> None:
    """Answer an `approval_asked` event with a `Decision`."""
    decision = await parse_body(request, _DECISION)
    await _service(request).decide(RunId(run_id), call_id, approve=decision.approve)


@router.get("/runs")
async def runs(
    request: Request, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> list[RunSummary]:
    """The latest kept runs, newest first."""
    return await _service(request).runs(limit=limit)


@router.get("/runs/{run_id}/events", response_class=StreamingResponse, responses=_NDJSON)
async def events(request: Request, run_id: _RunIdPath) -> StreamingResponse:
    """Every event of a kept run that ended, one per line."""
    return ndjson(_all(await _service(request).events(RunId(run_id))))


@router.post("/runs/{run_id}/replay", response_class=StreamingResponse, responses=_NDJSON)
async def replay(request: Request, run_id: _RunIdPath) -> StreamingResponse:
    """Run a kept run again from its record alone."""
    return await _events(request, _service(request).replay(RunId(run_id)))


@router.post("/runs/{run_id}/resume", response_class=StreamingResponse, responses=_NDJSON)
async def resume(request: Request, run_id: _RunIdPath) -> StreamingResponse:
    """Go on with a kept run whose process died."""
    return await _events(request, _service(request).resume(RunId(run_id)))


@router.post("/forks", response_class=StreamingResponse, responses=_NDJSON)
async def fork(request: Request) -> StreamingResponse:
    """Go on from a node of a kept run with something changed; takes a `ForkRequest`."""
    return await _events(request, _service(request).fork(await parse_body(request, _FORK)))


@router.get("/methods")
async def methods(request: Request) -> Methods:
    """The search methods of this planner, what each does and needs, and their aliases."""
    known = described(_service(request).methods)
    names = tuple(info.example for info in known)
    return Methods(methods=names, aliases=ALIASES, described=known)


async def _events(request: Request, events_: AsyncGenerator[PlanEvent, None]) -> StreamingResponse:
    """A run's events as they come."""
    # The first event is awaited here, so that a bad request is still answered with its status.
    return ndjson(_resumed(await until_disconnect(request, anext(events_)), events_))


async def _resumed(
    first: PlanEvent, rest: AsyncGenerator[PlanEvent, None]
) -> AsyncGenerator[PlanEvent, None]:
    async with aclosing(rest):
        yield _on_wire(first)
        async for event in rest:
            yield _on_wire(event)


async def _all(kept: list[PlanEvent]) -> AsyncGenerator[PlanEvent, None]:
    for event in kept:
        yield _on_wire(event)


def _on_wire(event: PlanEvent) -> PlanEvent:
    return fitted_to_wire(event) if isinstance(event, RunEnded) else event
