"""`/v1/tools`: the catalogue, and calling one API by hand."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError

from gateway.openapi import json_body
from gateway.state import state_of
from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import InvalidArgument, NotFound
from services.contracts.toolenv import (
    MAX_ARGUMENTS_CHARS,
    ApiHealth,
    CallResult,
    CatalogueChange,
    Observation,
    OverflowPart,
    ToolCall,
)
from services.kit.app import describe_validation, parse_body, read_body, until_disconnect

router = APIRouter(tags=["tools"])
_BODY = TypeAdapter(ToolCall)
_BODIES = TypeAdapter(tuple[ToolCall, ...])


@router.get("/v1/tools")
async def list_tools(
    request: Request,
    response: Response,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> list[ApiDocument]:
    """A page of the API documents, ordered by address; `X-Total-Count` says how many there are."""
    documents = await state_of(request).backends.toolenv.catalogue()
    response.headers["X-Total-Count"] = str(len(documents))
    return documents[offset : offset + limit]


@router.get("/v1/tools/health")
async def tools_health(request: Request) -> list[ApiHealth]:
    """How every API that was called, or lacks a credential, is doing."""
    return await state_of(request).backends.toolenv.health()


@router.get("/v1/tools/overflow/{ref}")
async def read_overflow(
    request: Request, ref: str, offset: int = 0, limit: int = 65_536
) -> OverflowPart:
    """A piece of an answer that was too long to show (`Observation.overflow_ref`)."""
    toolenv = state_of(request).backends.toolenv
    return await toolenv.read_overflow(ref, offset=offset, limit=limit)


@router.post("/v1/tools/reload")
async def reload_tools(request: Request) -> CatalogueChange:
    """Read the sources of tools again, and index what they hold now."""
    backends = state_of(request).backends
    change = await backends.toolenv.reload()
    await backends.retriever.index(tuple(await backends.toolenv.catalogue()))
    return change


@router.get("/v1/tools/{category}/{tool}/{api}")
async def show_tool(request: Request, category: str, tool: str, api: str) -> ApiDocument:
    """One API document."""
    ref = _ref(category, tool, api)
    documents = await state_of(request).backends.toolenv.describe([ref])
    if not documents:
        raise NotFound(f"no API {str(ref)!r}; `toolwright tools list` shows what there is")
    return documents[0]


@router.post("/v1/tools/call-many", openapi_extra=json_body(tuple[ToolCall, ...]))
async def call_tools(request: Request) -> list[CallResult]:
    """Run several API calls side by side; one that fails does not touch its siblings."""
    calls = await parse_body(request, _BODIES)
    toolenv = state_of(request).backends.toolenv
    return await until_disconnect(request, toolenv.invoke_many(calls))


@router.post("/v1/tools/call", openapi_extra=json_body(ToolCall))
async def call_tool(request: Request) -> Observation:
    """Run one API call and return its observation."""
    call = await parse_body(request, _BODY)
    return await until_disconnect(request, state_of(request).backends.toolenv.invoke(call))


def _ref(category: str, tool: str, api: str) -> ApiRef:
    try:
        return ApiRef(category=category, tool=tool, api=api)
    except ValidationError as exc:
        raise InvalidArgument(describe_validation(exc)) from exc


@router.post("/v1/tools/{category}/{tool}/{api}")
async def call_api(request: Request, category: str, tool: str, api: str) -> Observation:
    """Run one API call whose body is the arguments object, as exported documents describe it."""
    body = await read_body(request, limit_bytes=4 * MAX_ARGUMENTS_CHARS)
    try:
        call = ToolCall(api=_ref(category, tool, api), arguments_text=body.decode() or "{}")
    except ValidationError as exc:
        raise InvalidArgument(describe_validation(exc)) from exc
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"body: byte {exc.start} is not UTF-8; send JSON") from exc
    return await until_disconnect(request, state_of(request).backends.toolenv.invoke(call))
