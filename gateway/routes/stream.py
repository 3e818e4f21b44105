"""`/stream` and `/methods` of ToolBench's server (interop section 6)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import structlog
from fastapi import APIRouter, Request
from pydantic import Field, TypeAdapter

from gateway.events.toolbench import (
    ToolBenchTranslator,
    encode,
    request_error,
    retrieval_started,
)
from gateway.openapi import STREAMED, json_body
from gateway.runs import InstructionText, RunResponse, TopK, new_run_id
from gateway.state import state_of
from services.contracts.base import ForeignModel
from services.contracts.errors import Internal, ServiceError
from services.contracts.methods import DEFAULT_METHOD, OFFERED_METHODS, parse_method
from services.contracts.planner import PlanEvent, RunEnded, SolveRequest
from services.contracts.toolenv import CallSource
from services.kit.app import parse_body
from services.kit.boundary import attribute_to

router = APIRouter(tags=["toolbench"])
log = structlog.get_logger()


class StreamRequest(ForeignModel):
    """ToolBench's request body; unknown fields are ignored, as its UI may send more."""

    text: InstructionText
    top_k: TopK = 5
    method: str = DEFAULT_METHOD
    sources: tuple[CallSource, ...] | None = Field(default=None, min_length=1, max_length=5)
    """Who may answer calls (ours, not ToolBench's); see `RunRequest`."""


_BODY = TypeAdapter(StreamRequest)


@router.post(
    "/stream",
    status_code=200,
    response_class=RunResponse,
    responses=STREAMED,
    openapi_extra=json_body(StreamRequest),
)
@router.get("/stream", include_in_schema=False)
async def stream(request: Request) -> RunResponse:
    """Solve an instruction; one JSON object per line as the search goes on."""
    body = await parse_body(request, _BODY)
    method = parse_method(body.method)
    state = state_of(request)
    solve = SolveRequest(
        instruction=body.text,
        method=method.name,
        top_k=body.top_k,
        sources=body.sources,
        limits=state.backends.limits,
        run_id=new_run_id(),
    )
    return RunResponse(state.pool, solve, partial(_lines, solve, shown_method=body.method))


@router.get("/methods")
async def methods() -> dict[str, list[str]]:
    """Search methods a client may ask for."""
    return {"methods": list(OFFERED_METHODS)}


async def _lines(
    solve: SolveRequest, run: AsyncGenerator[PlanEvent, None], *, shown_method: str
) -> AsyncGenerator[str, None]:
    """The stream's text; the last event has no newline, as in the reference."""
    yield encode(retrieval_started()) + "\n"
    translator = ToolBenchTranslator(instruction=solve.instruction, method=shown_method)
    try:
        async with attribute_to(Internal, "stream"), aclosing(run) as events:
            async for event in events:
                is_last = isinstance(event, RunEnded)
                for line in translator.translate(event):
                    yield encode(line) + ("" if is_last else "\n")
                if is_last:
                    return
            raise Internal("the planner's stream ended without a result")
    except ServiceError as exc:
        log.warning("stream_failed", code=exc.code, detail=exc.detail, exc_info=exc)
        yield encode(request_error(f"{exc.to_problem().title}: {exc.detail}"))
