"""`/stream` and `/methods` of ToolBench's server (interop section 6)."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import Field, TypeAdapter, field_validator

from gateway.events.toolbench import (
    Line,
    ToolBenchTranslator,
    request_error,
    retrieval_started,
)
from gateway.state import GatewayState, state_of
from services.contracts.base import ForeignModel
from services.contracts.errors import ServiceError
from services.contracts.methods import DEFAULT_METHOD, OFFERED_METHODS, parse_method
from services.contracts.planner import SolveRequest
from services.contracts.retriever import MAX_TEXT_CHARS, MAX_TOP_K
from services.kit.app import parse_body

router = APIRouter(tags=["toolbench"])


class StreamRequest(ForeignModel):
    """ToolBench's request body; unknown fields are ignored, as its UI may send more."""

    text: str = Field(max_length=MAX_TEXT_CHARS)
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K)
    method: str = DEFAULT_METHOD

    @field_validator("text")
    @classmethod
    def _has_text(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("text is empty; send the instruction to solve")
        return text


_BODY = TypeAdapter(StreamRequest)
_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": StreamRequest.model_json_schema()}},
    }
}


@router.post("/stream", openapi_extra=_SCHEMA)
@router.get("/stream", include_in_schema=False)
async def stream(request: Request) -> StreamingResponse:
    """Solve an instruction; one JSON object per line as the search goes on."""
    body = await parse_body(request, _BODY)
    method = parse_method(body.method)
    state = state_of(request)
    state.pool.admit()
    solve = SolveRequest(
        instruction=body.text, method=method.name, top_k=body.top_k, limits=state.backends.limits
    )
    lines = _lines(state, solve, shown_method=body.method)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/methods")
async def methods() -> dict[str, list[str]]:
    """Search methods a client may ask for."""
    return {"methods": list(OFFERED_METHODS)}


async def _lines(
    state: GatewayState, solve: SolveRequest, *, shown_method: str
) -> AsyncIterator[str]:
    """The stream's text; the last event has no newline, as in the reference."""
    yield _line(retrieval_started()) + "\n"
    translator = ToolBenchTranslator(instruction=solve.instruction, method=shown_method)
    try:
        async with aclosing(state.pool.run(solve)) as events:  # type: ignore[type-var]
            async for event in events:
                for line in translator.translate(event):
                    yield _line(line) + _terminator(line)
    except ServiceError as exc:
        yield _line(request_error(f"{exc.to_problem().title}: {exc.detail}"))


def _line(line: Line) -> str:
    return json.dumps(line)


def _terminator(line: Line) -> str:
    is_last = line["method_name"] in ("on_request_end", "on_request_error")
    return "" if is_last else "\n"
