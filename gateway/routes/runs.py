"""`/v1/runs`: a run's own events, as the page and the command line read them."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from pydantic import Field, TypeAdapter

from gateway.openapi import json_body
from gateway.runs import InstructionText, RunResponse
from gateway.state import GatewayState, state_of
from services.contracts.apis import ApiRef
from services.contracts.base import WireModel
from services.contracts.errors import InvalidArgument
from services.contracts.methods import DEFAULT_METHOD, parse_method
from services.contracts.planner import SolveRequest
from services.contracts.retriever import MAX_TOP_K
from services.contracts.toolenv import CallSource
from services.kit.app import parse_body
from services.kit.streaming import model_lines

router = APIRouter(tags=["runs"])


class RunRequest(WireModel):
    """An instruction to solve within the gateway's limits."""

    text: InstructionText
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K)
    method: str = DEFAULT_METHOD
    apis: tuple[ApiRef, ...] | None = Field(default=None, min_length=1, max_length=MAX_TOP_K)
    """The action space; `None` lets the retriever choose."""
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    sources: tuple[CallSource, ...] | None = Field(default=None, min_length=1, max_length=5)
    """Who may answer calls, preferred first; `None` leaves it to the tool environment."""


_BODY = TypeAdapter(RunRequest)


@router.post(
    "/v1/runs", status_code=200, response_class=RunResponse, openapi_extra=json_body(RunRequest)
)
async def start_run(request: Request) -> RunResponse:
    """Solve an instruction; planner events as NDJSON (`services.contracts.planner.PlanEvent`)."""
    body = await parse_body(request, _BODY)
    state = state_of(request)
    method = parse_method(body.method)
    await _require_known(state, body.apis or ())
    solve = SolveRequest(
        instruction=body.text,
        method=method.name,
        apis=body.apis,
        top_k=body.top_k,
        seed=body.seed,
        sources=body.sources,
        limits=state.backends.limits,
    )
    return RunResponse(model_lines(state.pool.run(solve)), pool=state.pool)


async def _require_known(state: GatewayState, apis: Sequence[ApiRef]) -> None:
    """Refuse unknown APIs while there still is a status line to say so."""
    known = {document.ref for document in await state.backends.toolenv.describe(apis)}
    unknown = [str(ref) for ref in apis if ref not in known]
    if unknown:
        shown = ", ".join(repr(name[:200]) for name in unknown[:5])
        raise InvalidArgument(
            f"apis: {len(unknown)} of {len(apis)} do not exist: {shown}; "
            "`toolwright tools list` or GET /v1/tools shows what there is"
        )
