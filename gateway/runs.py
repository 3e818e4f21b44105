"""Starts runs for clients: one bounded pool for every protocol, closed when the client leaves."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Annotated

from pydantic import AfterValidator, Field
from starlette.types import Receive, Scope, Send

from gateway.backends import Backends
from services.contracts.errors import ResourceExhausted
from services.contracts.planner import PlanEvent, SolveRequest
from services.contracts.retriever import MAX_TEXT_CHARS
from services.kit.streaming import NdjsonResponse

_READING_S = 60.0  # a client may read on after the run's own deadline, but not for ever


def _with_text(text: str) -> str:
    if not text.strip():
        raise ValueError("text is empty; send the instruction to solve")
    return text


InstructionText = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(_with_text)]
"""What a client asks, in every protocol."""


class RunPool:
    """Counts the runs in flight; never queues, so that a client learns at once."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._running = 0

    @property
    def running(self) -> int:
        """Runs in flight."""
        return self._running

    @property
    def longest_s(self) -> float:
        """Seconds after which a response is cut off, even if its client stopped reading."""
        return self._backends.limits.deadline_s + _READING_S

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place of the pool.

        Raises:
            ResourceExhausted: `max_concurrent_runs` are in flight.
        """
        limit = self._backends.max_concurrent_runs
        if self._running >= limit:
            raise ResourceExhausted(
                f"{self._running} runs are in flight, the limit is {limit}; try again shortly, "
                "or raise GATEWAY_MAX_CONCURRENT_RUNS"
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def run(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """Yield a run's events; closing the generator cancels the run."""
        async with aclosing(self._backends.planner.solve(request)) as events:
            async for event in events:
                yield event


class RunResponse(NdjsonResponse):
    """The stream of one run.

    It takes its place in the pool itself, before the headers are sent: a refusal is a real 429, no
    two requests can take the last place, and a response that never starts holds none.
    """

    def __init__(self, lines: AsyncGenerator[str, None], *, pool: RunPool) -> None:
        super().__init__(lines)
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response; see the class."""
        with self._pool.place():
            async with asyncio.timeout(self._pool.longest_s):
                await super().__call__(scope, receive, send)
