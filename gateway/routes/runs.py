"""`/v1/runs`: a run's own events, as the page and the command line read them."""

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import Field, TypeAdapter, field_validator

from gateway.state import state_of
from services.contracts.apis import ApiRef
from services.contracts.base import WireModel
from services.contracts.methods import DEFAULT_METHOD, parse_method
from services.contracts.planner import SolveRequest
from services.contracts.retriever import MAX_TEXT_CHARS, MAX_TOP_K
from services.kit.app import parse_body
from services.kit.streaming import ndjson

router = APIRouter(tags=["runs"])


class RunRequest(WireModel):
    """An instruction to solve within the gateway's limits."""

    text: str = Field(max_length=MAX_TEXT_CHARS)
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K)
    method: str = DEFAULT_METHOD
    apis: tuple[ApiRef, ...] | None = Field(default=None, min_length=1, max_length=MAX_TOP_K)
    """The action space; `None` lets the retriever choose."""
    seed: int = 0

    @field_validator("text")
    @classmethod
    def _has_text(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("text is empty; send the instruction to solve")
        return text


_BODY = TypeAdapter(RunRequest)
_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": RunRequest.model_json_schema()}},
    }
}


@router.post("/v1/runs", openapi_extra=_SCHEMA)
async def start_run(request: Request) -> StreamingResponse:
    """Solve an instruction; planner events as NDJSON (`services.contracts.planner.PlanEvent`)."""
    body = await parse_body(request, _BODY)
    state = state_of(request)
    state.pool.admit()
    solve = SolveRequest(
        instruction=body.text,
        method=parse_method(body.method).name,
        apis=body.apis,
        top_k=body.top_k,
        seed=body.seed,
        limits=state.backends.limits,
    )
    return ndjson(state.pool.run(solve))
