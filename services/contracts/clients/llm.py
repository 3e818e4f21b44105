"""`ChatModel` over HTTP."""

from collections.abc import AsyncIterator

import httpx
from pydantic import TypeAdapter

from services.contracts.clients.http import call, stream_lines
from services.contracts.clients.stream import parse_frame
from services.contracts.llm import ChatRequest, Completion, CompletionDelta, ModelInfo

_TIMEOUT_S = 600.0
_DESCRIBE_TIMEOUT_S = 5.0  # the service itself waits less for its backend
_COMPLETION = TypeAdapter(Completion)
_DELTA = TypeAdapter(CompletionDelta)
_INFO = TypeAdapter(ModelInfo)


class HttpChatModel:
    """See `ChatModel`; the caller owns and closes the client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._info: ModelInfo | None = None

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

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`; asked for until it tells its context, then remembered."""
        if self._info is not None:
            return self._info
        info = await call(self._http, "GET", "/v1/model", _INFO, timeout_s=_DESCRIBE_TIMEOUT_S)
        if info.context_tokens is not None:
            self._info = info
        return info
