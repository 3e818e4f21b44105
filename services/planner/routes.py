"""HTTP face of the planner."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from services.contracts.base import ForeignModel
from services.contracts.methods import ALIASES, OFFERED_METHODS
from services.contracts.planner import PlanEvent, RunEnded, SolveRequest
from services.kit.app import parse_body
from services.kit.streaming import ndjson
from services.planner.record import fitted_to_wire
from services.planner.service import PlannerService

router = APIRouter(prefix="/v1", tags=["planner"])

_SOLVE = TypeAdapter(SolveRequest)


class Methods(ForeignModel):
    """Names that `SolveRequest.method` takes."""

    methods: tuple[str, ...]
    aliases: dict[str, str]


def _service(request: Request) -> PlannerService:
    # Holds because `app` gives this router's application no other service.
    return cast(PlannerService, request.state.service)


@router.post("/solve")
async def solve(request: Request) -> StreamingResponse:
    """Solve one `SolveRequest`; one `PlanEvent` per line."""
    events = _service(request).solve(await parse_body(request, _SOLVE))
    # The first event is awaited here, so that a bad request is still answered with its status.
    return ndjson(_resumed(await anext(events), events))


async def _resumed(
    first: PlanEvent, rest: AsyncGenerator[PlanEvent, None]
) -> AsyncGenerator[PlanEvent, None]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield fitted_to_wire(event) if isinstance(event, RunEnded) else event


@router.get("/methods")
async def methods(request: Request) -> Methods:
    """The search methods and their aliases."""
    return Methods(methods=OFFERED_METHODS, aliases=ALIASES)
