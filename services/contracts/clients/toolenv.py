"""`ToolEnv` over HTTP."""

from collections.abc import Sequence
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.clients.http import call
from services.contracts.toolenv import (
    ApiHealth,
    CallResult,
    CatalogueChange,
    Observation,
    OverflowPart,
    ToolCall,
    Trial,
)

_INVOKE_TIMEOUT_S = (
    120.0  # the service's own per-call limit is shorter; this ends a dead connection
)
_LOOKUP_TIMEOUT_S = 30.0
_PAGE = 2_000  # documents in one answer, a few megabytes
_OBSERVATION = TypeAdapter(Observation)
_DOCUMENTS = TypeAdapter(list[ApiDocument])
_RESULTS = TypeAdapter(list[CallResult])
_HEALTH = TypeAdapter(list[ApiHealth])
_CHANGE = TypeAdapter(CatalogueChange)
_PART = TypeAdapter(OverflowPart)
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

    async def try_code(self, trial: Trial) -> Observation:
        """See `ToolEnv.try_code`."""
        return await call(
            self._http,
            "POST",
            "/v1/trials",
            _OBSERVATION,
            body=trial,
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
        documents: list[ApiDocument] = []
        while True:
            path = f"/v1/catalogue?offset={len(documents)}&limit={_PAGE}"
            page = await call(self._http, "GET", path, _DOCUMENTS, timeout_s=_LOOKUP_TIMEOUT_S)
            documents += page
            if len(page) < _PAGE:
                return documents

    async def health(self) -> list[ApiHealth]:
        """See `ToolEnv.health`."""
        return await call(
            self._http, "GET", "/v1/tools/health", _HEALTH, timeout_s=_LOOKUP_TIMEOUT_S
        )

    async def read_overflow(
        self, ref: str, *, offset: int = 0, limit: int = 65_536
    ) -> OverflowPart:
        """See `ToolEnv.read_overflow`."""
        path = f"/v1/overflow/{quote(ref, safe='')}?offset={offset}&limit={limit}"
        return await call(self._http, "GET", path, _PART, timeout_s=_LOOKUP_TIMEOUT_S)

    async def reload(self) -> CatalogueChange:
        """See `ToolEnv.reload`."""
        return await call(
            self._http, "POST", "/v1/tools/reload", _CHANGE, timeout_s=_INVOKE_TIMEOUT_S
        )
