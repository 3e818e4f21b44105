"""`/v1/runs`: a run's own events, as the page and the command line read them."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import Field, TypeAdapter

from gateway.openapi import STREAMED, json_body
from gateway.runs import InstructionText, RunResponse, TopK, bounded, new_run_id
from gateway.state import GatewayState, state_of
from services.contracts.apis import ApiRef
from services.contracts.base import WireModel
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.ids import RunId
from services.contracts.methods import DEFAULT_METHOD, parse_method
from services.contracts.planner import (
    RUN_ID_PATTERN,
    Decision,
    Limits,
    Mode,
    RunControl,
    SolveRequest,
)
from services.contracts.retriever import MAX_TOP_K
from services.contracts.toolenv import CallSource
from services.kit.app import parse_body
from services.kit.streaming import model_lines

router = APIRouter(tags=["runs"])


class RunRequest(WireModel):
    """An instruction to solve within the gateway's limits."""

    text: InstructionText
    top_k: TopK = 5
    method: str = DEFAULT_METHOD
    apis: tuple[ApiRef, ...] | None = Field(default=None, min_length=1, max_length=MAX_TOP_K)
    """The action space; `None` lets the retriever choose."""
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    sources: tuple[CallSource, ...] | None = Field(default=None, min_length=1, max_length=5)
    """Who may answer calls, preferred first; `None` leaves it to the tool environment."""
    allow_writes: bool = False
    """Let the run make calls that change something."""
    ask_approval: bool = False
    """Ask before each such call with an `approval_asked` event; see `decide_call`."""
    run_id: RunId | None = Field(default=None, pattern=RUN_ID_PATTERN)
    """Under which the run can be cancelled; one of the gateway's own when `None`. Whoever knows it
    may cancel the run, so it should be hard to guess."""
    mode: Mode = "exact"
    prompts: str | None = Field(default=None, max_length=64)
    """Name of a prompt profile."""
    show_budget: bool = False
    """Tell the model before each step what it may still spend."""
    limits: Limits | None = None
    """Budgets of the run; each at most the gateway's own, and that where none is given."""


_BODY = TypeAdapter(RunRequest)
_DECISION = TypeAdapter(Decision)


@router.post(
    "/v1/runs",
    status_code=200,
    response_class=RunResponse,
    responses=STREAMED,
    openapi_extra=json_body(RunRequest),
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
        allow_writes=body.allow_writes,
        ask_approval=body.ask_approval,
        mode=body.mode,
        prompts=body.prompts,
        show_budget=body.show_budget,
        limits=bounded(body.limits, most=state.backends.limits),
        run_id=body.run_id or new_run_id(),
    )
    return RunResponse(state.pool, solve, model_lines, refuses=True)


@router.post("/v1/runs/{run_id}/cancel", status_code=204)
async def cancel_run(
    request: Request, run_id: Annotated[str, Path(pattern=RUN_ID_PATTERN)]
) -> None:
    """End a run that waits or works; its stream ends with a `cancelled` event."""
    await _control(request).cancel(RunId(run_id))


@router.post(
    "/v1/runs/{run_id}/calls/{call_id}", status_code=204, openapi_extra=json_body(Decision)
)
async def decide_call(
    request: Request,
    run_id: Annotated[str, Path(pattern=RUN_ID_PATTERN)],
    call_id: Annotated[int, Path(ge=1)],
) -> None:
    """Say whether a call that waits for approval may be made."""
    decision = await parse_body(request, _DECISION)
    await _control(request).decide(RunId(run_id), call_id, approve=decision.approve)


def _control(request: Request) -> RunControl:
    control = state_of(request).backends.control
    if control is None:
        raise FailedPrecondition("runs of this gateway's planner cannot be acted upon")
    return control


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
