"""`/v1/runs/{id}/…` and `/v1/forks`: runs that were kept, for whoever knows their ids.

An id is hard to guess, and so it is what permits to look: the gateway does not list runs. Their
list is the planner's own, `toolwright runs list` on its machine.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from gateway.openapi import STREAMED, json_body
from gateway.runs import RunPool, bounded, new_run_id
from gateway.state import state_of
from services.contracts.errors import FailedPrecondition
from services.contracts.ids import RunId
from services.contracts.planner import (
    RUN_ID_PATTERN,
    ForkRequest,
    PlanEvent,
    RunEnded,
    RunKeeper,
)
from services.kit.app import parse_body, until_disconnect
from services.kit.streaming import ndjson

router = APIRouter(tags=["runs"])

_FORK = TypeAdapter(ForkRequest)
_RunIdPath = Annotated[str, Path(pattern=RUN_ID_PATTERN)]


@router.get("/v1/runs/{run_id}/events", response_class=StreamingResponse, responses=STREAMED)
async def events(request: Request, run_id: _RunIdPath) -> StreamingResponse:
    """Every event of a kept run that ended."""
    return await _streamed(request, _keeper(request).replay(RunId(run_id)))


@router.post("/v1/runs/{run_id}/replay", response_class=StreamingResponse, responses=STREAMED)
async def replay(request: Request, run_id: _RunIdPath) -> StreamingResponse:
    """Run a kept run again from its record alone."""
    return await _streamed(request, _keeper(request).replay(RunId(run_id)))


@router.post("/v1/runs/{run_id}/resume", response_class=StreamingResponse, responses=STREAMED)
async def resume(request: Request, run_id: _RunIdPath) -> StreamingResponse:
    """Go on with a run that was interrupted."""
    return await _streamed(request, _keeper(request).resume(RunId(run_id)))


@router.post(
    "/v1/forks",
    response_class=StreamingResponse,
    responses=STREAMED,
    openapi_extra=json_body(ForkRequest),
)
async def fork(request: Request) -> StreamingResponse:
    """Start a new run from a node of a kept one, within the gateway's own limits."""
    asked = await parse_body(request, _FORK)
    limits = bounded(asked.limits, most=state_of(request).backends.limits)
    changes = {"limits": limits, "new_run_id": asked.new_run_id or new_run_id()}
    return await _streamed(request, _keeper(request).fork(asked.model_copy(update=changes)))


def _keeper(request: Request) -> RunKeeper:
    keeper = state_of(request).backends.keeper
    if keeper is None:
        raise FailedPrecondition("this gateway's planner keeps no runs")
    return keeper


async def _streamed(
    request: Request, events_: AsyncGenerator[PlanEvent, None]
) -> StreamingResponse:
    bounded_events = _placed(state_of(request).pool, events_)
    # The first event is awaited here, so that a bad request is still answered with its status.
    first = await until_disconnect(request, anext(bounded_events))
    return ndjson(_whole(first, bounded_events))


async def _placed(
    pool: RunPool, events_: AsyncGenerator[PlanEvent, None]
) -> AsyncGenerator[PlanEvent, None]:
    """The events, in one place of the pool."""
    with pool.place():
        async with aclosing(events_):
            async for event in events_:
                # An answer file may be nested more deeply than readers of JSON go.
                is_last = isinstance(event, RunEnded)
                yield event.model_copy(update={"record": None}) if is_last else event


async def _whole(
    first: PlanEvent, rest: AsyncGenerator[PlanEvent, None]
) -> AsyncGenerator[PlanEvent, None]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield event
