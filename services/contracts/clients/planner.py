"""`Planner` over HTTP."""

from collections.abc import AsyncGenerator

import httpx
from pydantic import TypeAdapter

from services.contracts.clients.http import stream_lines
from services.contracts.clients.stream import parse_frame
from services.contracts.planner import PlanEvent, SolveRequest

_SILENCE_S = 600.0  # one model call is the longest pause between two events
_EVENT: TypeAdapter[PlanEvent] = TypeAdapter(PlanEvent)


class HttpPlanner:
    """See `Planner`; the caller owns and closes the client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `Planner.solve`."""
        async with stream_lines(
            self._http, "/v1/solve", body=request, timeout_s=_SILENCE_S
        ) as lines:
            async for line in lines:
                if line:
                    yield parse_frame(_EVENT, line)
