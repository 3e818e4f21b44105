"""Starts runs for clients: one bound for every protocol, and a client that leaves ends its run."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gateway.backends import Backends
from services.contracts.errors import ResourceExhausted
from services.contracts.ids import RunId
from services.contracts.planner import Limits, PlanEvent, Queued, SolveRequest
from services.contracts.retriever import MAX_TEXT_CHARS, MAX_TOP_K
from services.kit.app import until_disconnect
from services.kit.streaming import NdjsonResponse

RUN_ID_HEADER = "X-Run-Id"
_READING_S = 60.0  # a client may read on after the run's own deadline, but not for ever
_WAITING_S = 3600.0  # for a turn; the planner bounds how many wait, not how long


def _with_text(text: str) -> str:
    if not text.strip():
        raise ValueError("text is empty; send the instruction to solve")
    return text


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):  # which Python takes for 0 or 1
        raise ValueError("a number is expected, not a truth value")
    return value


InstructionText = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(_with_text)]
"""What a client asks, in every protocol."""


TopK = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1, le=MAX_TOP_K)]
"""How many APIs are retrieved."""


def new_run_id() -> RunId:
    """A name that nobody guesses: who knows it may cancel the run."""
    return RunId(uuid.uuid4().hex)


def bounded(asked: Limits | None, *, most: Limits) -> Limits:
    """What a client asks for, never above the gateway's own limits, which hold for the rest."""
    if asked is None:
        return most
    chosen = {name: getattr(asked, name) for name in asked.model_fields_set}
    tops = {name: getattr(most, name) for name in chosen}
    return most.model_copy(
        update={
            name: tops[name] if value is None else _least(value, tops[name])
            for name, value in chosen.items()
        }
    )


def _least(value: float, top: float | None) -> float:
    return value if top is None else min(value, top)


class RunPool:
    """Counts the open responses; the planner decides whose run works and whose waits."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._open = 0

    @property
    def open(self) -> int:
        """Open responses."""
        return self._open

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place of the pool.

        Raises:
            ResourceExhausted: `max_concurrent_runs` responses are open.
        """
        limit = self._backends.max_concurrent_runs
        if self._open >= limit:
            raise ResourceExhausted(
                f"{self._open} runs are open, the limit is {limit}; try again shortly, "
                "or raise GATEWAY_MAX_CONCURRENT_RUNS"
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def run(
        self, request: SolveRequest, patience: asyncio.Timeout | None = None
    ) -> AsyncGenerator[PlanEvent, None]:
        """Yield a run's events; closing the generator cancels the run.

        Args:
            request: What to solve.
            patience: Is set to the time that a run may take, counted from its turn on.
        """
        waits = patience is not None
        async with aclosing(self._backends.planner.solve(request)) as events:
            async for event in events:
                if waits and patience is not None and not isinstance(event, Queued):
                    waits = False
                    _extend(patience, request.limits.deadline_s + _READING_S)
                yield event


def _extend(patience: asyncio.Timeout, seconds: float) -> None:
    if not patience.expired():  # then its response is on its way out
        patience.reschedule(asyncio.get_running_loop().time() + seconds)


Lines = Callable[[AsyncGenerator[PlanEvent, None]], AsyncGenerator[str, None]]
"""Writes a run's events in a protocol."""


class RunResponse(NdjsonResponse):
    """The stream of one run; `X-Run-Id` names it.

    It takes its place in the pool itself, before the headers are sent: a refusal is a real 429, no
    two requests can take the last place, and a response that never starts holds none.
    """

    def __init__(
        self, pool: RunPool, request: SolveRequest, lines: Lines, *, refuses: bool = False
    ) -> None:
        """Stream a run.

        Args:
            pool: Has the places.
            request: What to solve.
            lines: Writes the events in a protocol.
            refuses: Await the first event before the headers, so that what the planner refuses is
                a real 4xx too. The caller who leaves meanwhile cancels the run.
        """
        self._patience = asyncio.Timeout(None)
        self._run = pool.run(request, self._patience)
        self._begun: list[PlanEvent] = []
        super().__init__(lines(self._whole()))
        if request.run_id is not None:
            self.headers[RUN_ID_HEADER] = request.run_id
        self._pool = pool
        self._refuses = refuses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response; see the class."""
        with self._pool.place():
            async with self._patience, aclosing(self._run):
                _extend(self._patience, _WAITING_S)
                if self._refuses:
                    await until_disconnect(Request(scope, receive), self._begin())
                await super().__call__(scope, receive, send)

    async def _begin(self) -> None:
        self._begun.append(await anext(self._run))

    async def _whole(self) -> AsyncGenerator[PlanEvent, None]:
        async with aclosing(self._run):
            for event in self._begun:
                yield event
            async for event in self._run:
                yield event
