"""HTTP face of the language-model service."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from services.contracts.llm import ChatRequest, Completion, CompletionDelta, ModelInfo
from services.kit.app import parse_body, until_disconnect
from services.kit.streaming import ndjson
from services.llm.service import LlmService

router = APIRouter(prefix="/v1", tags=["llm"])

_REQUEST = TypeAdapter(ChatRequest)


def _service(request: Request) -> LlmService:
    # Holds because `app` gives this router's application no other service.
    return cast(LlmService, request.state.service)


@router.post("/complete")
async def complete(request: Request) -> Completion:
    """Sample one reply to a `ChatRequest`."""
    asked = await parse_body(request, _REQUEST)
    return await until_disconnect(request, _service(request).complete(asked))


@router.post("/complete/stream")
async def stream(request: Request) -> StreamingResponse:
    """Sample one reply; one `CompletionDelta` per line."""
    deltas = _service(request).stream(await parse_body(request, _REQUEST))
    # The first delta is awaited here, so that a refused request is answered with its status.
    return ndjson(_resumed(await until_disconnect(request, anext(deltas)), deltas))


async def _resumed(
    first: CompletionDelta, rest: AsyncIterator[CompletionDelta]
) -> AsyncGenerator[CompletionDelta, None]:
    async with aclosing(rest):  # type: ignore[type-var]  # an async generator, closable
        yield first
        async for delta in rest:
            yield delta


@router.get("/model")
async def model(request: Request) -> ModelInfo:
    """Which model answers, and how."""
    return await _service(request).describe()
