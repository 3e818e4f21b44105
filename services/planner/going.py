"""Runs that are going on: each waits for its turn, and can be cancelled by its name."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import Protocol

from services.contracts.errors import DeadlineExceeded, FailedPrecondition, NotFound
from services.contracts.ids import RunId
from services.contracts.planner import PlanEvent, Queued, RunEnded
from services.planner.admission import FairQueue
from services.planner.telling import Tell, told
from services.planner.tracing import note_end, run_span

_MAX_UNREAD_EVENTS = 16  # a reader that falls behind holds the search back


class Work(Protocol):
    """What is done once it is a run's turn."""

    def check(self) -> None:
        """Refuse what can be seen to be impossible before it waits.

        Raises:
            InvalidArgument: What was asked for cannot be done.
        """
        ...

    async def go(self, tell: Tell) -> None:
        """Tell events; the last one is a `RunEnded`. A reader must not hold it for ever."""
        ...

    def cancelled(self) -> RunEnded:
        """How far it came when it was cancelled."""
        ...


@dataclass(slots=True)
class _Going:
    """A run from its wait to its end."""

    task: "asyncio.Task[object]"
    is_cancelled: bool = False
    end: RunEnded | None = None


class GoingRuns:
    """Belongs to one event loop."""

    def __init__(self, queue: FairQueue) -> None:
        """Let runs wait in a queue."""
        self._queue = queue
        self._going: dict[RunId, _Going] = {}

    def events(
        self, run_id: RunId, work: Work, *, user: str | None
    ) -> AsyncGenerator[PlanEvent, None]:
        """Do the work when it is its turn, and yield what it tells, numbered.

        Closing the generator ends the work, or the wait, and frees the place.

        Raises:
            FailedPrecondition: A run of that name is going on.
            ResourceExhausted: Too many runs wait.
        """
        return told(partial(self._go, run_id, work, user), bound=_MAX_UNREAD_EVENTS)

    def cancel(self, run_id: RunId) -> None:
        """End a run as `cancelled`, working or waiting.

        Raises:
            NotFound: No such run is going on.
        """
        going = self._going.get(run_id)
        if going is None or going.end is not None:
            raise NotFound(f"no run {run_id!r} is going on; it has ended, or never began")
        if not going.is_cancelled:  # a second time would interrupt the telling of the first
            going.is_cancelled = True
            going.task.cancel()

    async def _go(self, run_id: RunId, work: Work, user: str | None, emit: Tell) -> None:
        """One run, in the task that `reported` starts for it."""
        if run_id in self._going:
            raise FailedPrecondition(
                f"run {run_id!r} is going on already; choose another run_id, or none"
            )
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        going = self._going[run_id] = _Going(task)

        async def tell(event: PlanEvent, /, *, until: float = inf) -> None:
            if isinstance(event, RunEnded):
                # Noted before it is read: what has ended can no longer be cancelled.
                event = event.model_copy(update={"run_id": event.run_id or run_id})
                going.end = event
            # What ends waits for no reader: neither its place nor its name are kept for one.
            has_ended = going.is_cancelled or going.end is not None
            await emit(event, until=0.0 if has_ended else until)

        with run_span(run_id) as begun:
            try:
                await self._in_turn(run_id, work, user, tell)
            except asyncio.CancelledError:
                if not going.is_cancelled or going.end is not None:
                    raise
                task.uncancel()
                await tell(work.cancelled())
            finally:
                del self._going[run_id]
                if going.end is not None:
                    note_end(begun, going.end)

    async def _in_turn(self, run_id: RunId, work: Work, user: str | None, tell: Tell) -> None:
        work.check()
        began = monotonic()
        with self._queue.join(user) as place:
            try:
                # A reader that does not read must not keep an admitted run from its beginning.
                await place.turn(lambda at: tell(Queued(run_id=run_id, position=at), until=0.0))
            except DeadlineExceeded:
                await tell(_expired(monotonic() - began, self._queue.max_runs))
                return
            await work.go(tell)


def _expired(waited_s: float, max_runs: int) -> RunEnded:
    reason = (
        f"the caller's deadline passed after the run had waited {waited_s:.1f} s for its turn; "
        f"{max_runs} runs work at a time"
    )
    return RunEnded(kind="exhausted", limit="deadline_s", reason=reason)
