"""HTTP face of the retriever."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter, ValidationError

from services.contracts.apis import ApiDocument
from services.contracts.errors import InvalidArgument
from services.contracts.retriever import (
    IndexStatus,
    Retriever,
    RetrieveRequest,
    RetrieveResult,
)
from services.kit.app import describe_validation, parse_body, read_body

MAX_INDEX_BODY_BYTES: Final = 256 << 20
"""The published 16,464 documents take about 40 MB; schemas of other collections are larger."""

_REQUEST: Final = TypeAdapter(RetrieveRequest)
_DOCUMENTS: Final = TypeAdapter(tuple[ApiDocument, ...])


def create_router() -> APIRouter:
    """Routes of the retriever; the service is `request.state.service`."""
    router = APIRouter(prefix="/v1", tags=["retriever"])
    router.add_api_route("/retrieve", _retrieve, methods=["POST"])
    router.add_api_route("/index", _index, methods=["POST"])
    router.add_api_route("/index", _status, methods=["GET"])
    return router


def _service(request: Request) -> Retriever:
    service: Retriever = request.state.service
    return service


Service = Annotated[Retriever, Depends(_service)]


async def _retrieve(request: Request, service: Service) -> RetrieveResult:
    """Rank APIs for a query."""
    return await service.retrieve(await parse_body(request, _REQUEST))


async def _index(request: Request, service: Service) -> IndexStatus:
    """Build or reopen the index of these documents, and serve from it."""
    body = await read_body(request, limit_bytes=MAX_INDEX_BODY_BYTES)
    return await service.index(await asyncio.to_thread(_parse_documents, body))


async def _status(service: Service) -> IndexStatus | None:
    """The index in force, null before the first."""
    return await service.status()


def _parse_documents(body: bytes) -> tuple[ApiDocument, ...]:
    try:
        return _DOCUMENTS.validate_json(body)
    except ValidationError as exc:
        raise InvalidArgument(describe_validation(exc)) from exc
