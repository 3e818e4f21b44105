"""`Planner`, `RunControl` and `RunKeeper` over HTTP."""

from collections.abc import AsyncGenerator
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter

from services.contracts.clients.http import call, stream_lines
from services.contracts.clients.stream import parse_frame
from services.contracts.ids import RunId
from services.contracts.planner import (
    Decision,
    ForkRequest,
    PlanEvent,
    RunSummary,
    SolveRequest,
)

_SILENCE_S = 600.0  # one model call is the longest pause between two events
_CONTROL_S = 10.0
_LOOKUP_S = 60.0
_EVENT: TypeAdapter[PlanEvent] = TypeAdapter(PlanEvent)
_NOTHING: TypeAdapter[None] = TypeAdapter(None)
_SUMMARIES = TypeAdapter(list[RunSummary])


class HttpPlanner:
    """See `Planner`, `RunControl` and `RunKeeper`; the caller owns and closes the client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `Planner.solve`."""
        return self._events("POST", "/v1/solve", request)

    async def cancel(self, run_id: RunId) -> None:
        """See `RunControl.cancel`."""
        await call(self._http, "POST", f"{_path(run_id)}/cancel", _NOTHING, timeout_s=_CONTROL_S)

    async def decide(self, run_id: RunId, call_id: int, *, approve: bool) -> None:
        """See `RunControl.decide`."""
        path = f"{_path(run_id)}/calls/{call_id}"
        body = Decision(approve=approve)
        await call(self._http, "POST", path, _NOTHING, body=body, timeout_s=_CONTROL_S)

    async def runs(self, *, limit: int = 100) -> list[RunSummary]:
        """See `RunKeeper.runs`."""
        path = f"/v1/runs?limit={limit}"
        return await call(self._http, "GET", path, _SUMMARIES, timeout_s=_LOOKUP_S)

    async def events(self, run_id: RunId) -> list[PlanEvent]:
        """See `RunKeeper.events`."""
        return [event async for event in self._events("GET", f"{_path(run_id)}/events")]

    def replay(self, run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
        """See `RunKeeper.replay`."""
        return self._events("POST", f"{_path(run_id)}/replay")

    def resume(self, run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
        """See `RunKeeper.resume`."""
        return self._events("POST", f"{_path(run_id)}/resume")

    def fork(self, request: ForkRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `RunKeeper.fork`."""
        return self._events("POST", "/v1/forks", request)

    async def _events(
        self, method: str, path: str, body: BaseModel | None = None
    ) -> AsyncGenerator[PlanEvent, None]:
        async with stream_lines(
            self._http, path, body=body, timeout_s=_SILENCE_S, method=method
        ) as lines:
            async for line in lines:
                if line:
                    yield parse_frame(_EVENT, line)


def _path(run_id: RunId) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}"
