"""`/v1/retrieve`: which APIs fit a text."""

from fastapi import APIRouter, Request
from pydantic import TypeAdapter

from gateway.openapi import json_body
from gateway.state import state_of
from services.contracts.retriever import RetrieveRequest, RetrieveResult
from services.kit.app import parse_body

router = APIRouter(tags=["retrieve"])
_BODY = TypeAdapter(RetrieveRequest)


@router.post("/v1/retrieve", openapi_extra=json_body(RetrieveRequest))
async def retrieve(request: Request) -> RetrieveResult:
    """Rank the APIs of the catalogue for a text."""
    return await state_of(request).backends.retriever.retrieve(await parse_body(request, _BODY))
