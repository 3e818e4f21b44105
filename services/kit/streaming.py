"""Streams models to a caller as one JSON document per line."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from services.contracts.clients.stream import StreamFailure
from services.contracts.errors import Internal, ServiceError
from services.kit.boundary import attribute_to

log = structlog.get_logger()
# Proxies must pass a line on when it is written, and nobody may keep it.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class NdjsonResponse(StreamingResponse):
    """Streams lines; whatever ends the response closes the generator, at once and in this task.

    Starlette leaves a generator that a departed client interrupted to the garbage collector.
    """

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncGenerator[str, None]) -> None:
        super().__init__(lines, headers=_HEADERS)
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response; see the class."""
        async with aclosing(self._lines):
            await super().__call__(scope, receive, send)


def ndjson(events: AsyncIterator[BaseModel]) -> NdjsonResponse:
    """Stream models as NDJSON between our services.

    Headers are gone when an error occurs, so it becomes a last `StreamFailure` line, which the
    client raises again. A client that leaves closes `events`.
    """
    return NdjsonResponse(model_lines(events))


async def model_lines(events: AsyncIterator[BaseModel]) -> AsyncGenerator[str, None]:
    """The text of `ndjson`, line by line."""
    try:
        async with attribute_to(Internal, "stream"):
            if isinstance(events, AsyncGenerator):
                async with aclosing(events):
                    async for event in events:
                        yield event.model_dump_json() + "\n"
            else:
                async for event in events:
                    yield event.model_dump_json() + "\n"
    except ServiceError as exc:
        log.warning("stream_failed", code=exc.code, detail=exc.detail, exc_info=exc)
        yield StreamFailure(problem=exc.to_problem()).model_dump_json() + "\n"
