"""`/v1/tools`: the catalogue, and calling one API by hand."""

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError

from gateway.openapi import json_body
from gateway.state import state_of
from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import InvalidArgument, NotFound
from services.contracts.toolenv import Observation, ToolCall
from services.kit.app import describe_validation, parse_body

router = APIRouter(tags=["tools"])
_BODY = TypeAdapter(ToolCall)


@router.get("/v1/tools")
async def list_tools(request: Request) -> list[ApiDocument]:
    """Every API document, ordered by address."""
    return await state_of(request).backends.toolenv.catalogue()


@router.get("/v1/tools/{category}/{tool}/{api}")
async def show_tool(request: Request, category: str, tool: str, api: str) -> ApiDocument:
    """One API document."""
    try:
        ref = ApiRef(category=category, tool=tool, api=api)
    except ValidationError as exc:
        raise InvalidArgument(describe_validation(exc)) from exc
    documents = await state_of(request).backends.toolenv.describe([ref])
    if not documents:
        raise NotFound(f"no API {str(ref)!r}; `toolwright tools list` shows what there is")
    return documents[0]


@router.post("/v1/tools/call", openapi_extra=json_body(ToolCall))
async def call_tool(request: Request) -> Observation:
    """Run one API call and return its observation."""
    call = await parse_body(request, _BODY)
    toolenv = state_of(request).backends.toolenv
    if not await toolenv.describe([call.api]):
        raise NotFound(f"no API {str(call.api)!r}; `toolwright tools list` shows what there is")
    return await toolenv.invoke(call)
