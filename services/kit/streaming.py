"""Streams models to a caller as one JSON document per line."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from services.contracts.clients.stream import StreamFailure
from services.contracts.errors import ServiceError


def ndjson(events: AsyncIterator[BaseModel]) -> StreamingResponse:
    """Stream models as NDJSON between our services.

    Headers are gone when an error occurs, so a `ServiceError` becomes a last `StreamFailure` line,
    which the client raises again. A client that leaves closes `events`.
    """
    return StreamingResponse(_lines(events), media_type="application/x-ndjson")


async def _lines(events: AsyncIterator[BaseModel]) -> AsyncIterator[str]:
    try:
        if isinstance(events, AsyncGenerator):
            async with aclosing(events):
                async for event in events:
                    yield event.model_dump_json() + "\n"
        else:
            async for event in events:
                yield event.model_dump_json() + "\n"
    except ServiceError as exc:
        yield StreamFailure(problem=exc.to_problem()).model_dump_json() + "\n"
