"""HTTP face of the tool environment."""

from typing import Annotated, cast

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.toolenv import (
    ApiHealth,
    CallResult,
    CatalogueChange,
    Observation,
    OverflowPart,
    ToolCall,
    Trial,
)
from services.kit.app import parse_body, until_disconnect
from services.toolenv.service import ToolEnvService
from services.toolenv.status import SandboxStatus

router = APIRouter(prefix="/v1", tags=["toolenv"])

_MAX_CALLS_BYTES = 8 << 20
_CALL = TypeAdapter(ToolCall)
_CALLS = TypeAdapter(tuple[ToolCall, ...])
_TRIAL = TypeAdapter(Trial)
_REFS = TypeAdapter(tuple[ApiRef, ...])


def _service(request: Request) -> ToolEnvService:
    # Holds because `app` gives this router's application no other service.
    return cast(ToolEnvService, request.state.service)


@router.post("/invoke")
async def invoke(request: Request) -> Observation:
    """Execute one `ToolCall`."""
    call = await parse_body(request, _CALL)
    return await until_disconnect(request, _service(request).invoke(call))


@router.post("/invoke-many")
async def invoke_many(request: Request) -> list[CallResult]:
    """Execute a JSON array of `ToolCall`s side by side."""
    calls = await parse_body(request, _CALLS, limit_bytes=_MAX_CALLS_BYTES)
    return await until_disconnect(request, _service(request).invoke_many(calls))


@router.post("/trials")
async def try_code(request: Request) -> Observation:
    """Run a `Trial`: code that is no tool yet, in the sandbox."""
    trial = await parse_body(request, _TRIAL)
    return await until_disconnect(request, _service(request).try_code(trial))


@router.post("/describe")
async def describe(request: Request) -> list[ApiDocument]:
    """Documents of a JSON array of `ApiRef`s; unknown ones are left out."""
    refs = await parse_body(request, _REFS)
    return await _service(request).describe(refs)


@router.get("/catalogue")
async def catalogue(
    request: Request,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 2_000,
) -> list[ApiDocument]:
    """A page of the documents, ordered by address."""
    return (await _service(request).catalogue())[offset : offset + limit]


@router.get("/tools/health")
async def health(request: Request) -> list[ApiHealth]:
    """How every API that was called, or lacks a credential, is doing."""
    return await _service(request).health()


@router.get("/overflow/{ref}")
async def read_overflow(
    request: Request, ref: str, offset: int = 0, limit: int = 65_536
) -> OverflowPart:
    """A piece of an answer that was too long to show."""
    return await _service(request).read_overflow(ref, offset=offset, limit=limit)


@router.post("/tools/reload")
async def reload(request: Request) -> CatalogueChange:
    """Read the sources of tools again."""
    return await _service(request).reload()


@router.get("/sandbox")
async def sandbox(request: Request) -> SandboxStatus:
    """Tier, kernel support and probe results of the sandbox."""
    return _service(request).sandbox_status()
