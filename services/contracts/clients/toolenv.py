"""`ToolEnv` over HTTP."""

from collections.abc import Sequence

import httpx
from pydantic import TypeAdapter

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.clients.http import call
from services.contracts.toolenv import CallResult, Observation, ToolCall

_INVOKE_TIMEOUT_S = (
    120.0  # the service's own per-call limit is shorter; this ends a dead connection
)
_LOOKUP_TIMEOUT_S = 30.0
_OBSERVATION = TypeAdapter(Observation)
_DOCUMENTS = TypeAdapter(list[ApiDocument])
_RESULTS = TypeAdapter(list[CallResult])
_CALLS = TypeAdapter(tuple[ToolCall, ...])
_REFS = TypeAdapter(tuple[ApiRef, ...])


class HttpToolEnv:
    """See `ToolEnv`; the caller owns and closes the client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def invoke(self, call_: ToolCall) -> Observation:
        """See `ToolEnv.invoke`."""
        return await call(
            self._http, "POST", "/v1/invoke", _OBSERVATION, body=call_, timeout_s=_INVOKE_TIMEOUT_S
        )

    async def invoke_many(self, calls: Sequence[ToolCall]) -> list[CallResult]:
        """See `ToolEnv.invoke_many`."""
        body = _CALLS.dump_json(tuple(calls))
        return await call(
            self._http,
            "POST",
            "/v1/invoke-many",
            _RESULTS,
            body=body,
            timeout_s=_INVOKE_TIMEOUT_S,
        )

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """See `ToolEnv.describe`."""
        body = _REFS.dump_json(tuple(refs))
        return await call(
            self._http, "POST", "/v1/describe", _DOCUMENTS, body=body, timeout_s=_LOOKUP_TIMEOUT_S
        )

    async def catalogue(self) -> list[ApiDocument]:
        """See `ToolEnv.catalogue`."""
        return await call(
            self._http, "GET", "/v1/catalogue", _DOCUMENTS, timeout_s=_LOOKUP_TIMEOUT_S
        )
