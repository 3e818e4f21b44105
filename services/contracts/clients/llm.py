"""`ChatModel` over HTTP."""

from collections.abc import AsyncIterator

import httpx
from pydantic import TypeAdapter

from services.contracts.clients.http import call, stream_lines
from services.contracts.clients.stream import parse_frame
from services.contracts.llm import ChatRequest, Completion, CompletionDelta

_TIMEOUT_S = 600.0
_COMPLETION = TypeAdapter(Completion)
_DELTA = TypeAdapter(CompletionDelta)


class HttpChatModel:
    """See `ChatModel`; the caller owns and closes the client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`."""
        return await call(
            self._http, "POST", "/v1/complete", _COMPLETION, body=request, timeout_s=_TIMEOUT_S
        )

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """See `ChatModel.stream`."""
        async with stream_lines(
            self._http, "/v1/complete/stream", body=request, timeout_s=_TIMEOUT_S
        ) as lines:
            async for line in lines:
                if line:
                    yield parse_frame(_DELTA, line)
