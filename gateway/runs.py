"""Starts runs for clients: one bounded pool for every protocol, closed when the client leaves."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from gateway.backends import Backends
from services.contracts.errors import ResourceExhausted
from services.contracts.planner import PlanEvent, SolveRequest


class RunPool:
    """Counts the runs in flight; never queues, so that a client learns at once."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._running = 0

    def admit(self) -> None:
        """Refuse a run before its stream starts.

        Raises:
            ResourceExhausted: `max_concurrent_runs` are in flight.
        """
        limit = self._backends.max_concurrent_runs
        if self._running >= limit:
            raise ResourceExhausted(f"{limit} runs are in flight, the limit; try again shortly")

    async def run(self, request: SolveRequest) -> AsyncIterator[PlanEvent]:
        """Yield a run's events; closing the iterator cancels the run."""
        self.admit()
        self._running += 1
        try:
            events = self._backends.planner.solve(request)
            if not isinstance(events, AsyncGenerator):
                raise TypeError("a planner's events must be an async generator, to be closed")
            async with aclosing(events):
                async for event in events:
                    yield event
        finally:
            self._running -= 1
