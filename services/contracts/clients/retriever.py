"""`Retriever` over HTTP."""

import httpx
from pydantic import TypeAdapter

from services.contracts.apis import ApiDocument
from services.contracts.clients.http import call
from services.contracts.retriever import IndexStatus, RetrieveRequest, RetrieveResult

_RETRIEVE_TIMEOUT_S = 30.0
_INDEX_TIMEOUT_S = (
    3600.0  # 16,000 documents through a small encoder on one core take about 15 minutes
)
_RESULT = TypeAdapter(RetrieveResult)
_INDEXED = TypeAdapter(IndexStatus)
_STATUS: TypeAdapter[IndexStatus | None] = TypeAdapter(IndexStatus | None)
_DOCUMENTS = TypeAdapter(tuple[ApiDocument, ...])


class HttpRetriever:
    """See `Retriever`; the caller owns and closes the client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResult:
        """See `Retriever.retrieve`."""
        return await call(
            self._http, "POST", "/v1/retrieve", _RESULT, body=request, timeout_s=_RETRIEVE_TIMEOUT_S
        )

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        """See `Retriever.index`."""
        body = _DOCUMENTS.dump_json(documents)
        return await call(
            self._http, "POST", "/v1/index", _INDEXED, body=body, timeout_s=_INDEX_TIMEOUT_S
        )

    async def status(self) -> IndexStatus | None:
        """See `Retriever.status`."""
        return await call(self._http, "GET", "/v1/index", _STATUS, timeout_s=_RETRIEVE_TIMEOUT_S)
