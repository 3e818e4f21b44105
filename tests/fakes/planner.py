"""A planner that plays written runs, and remembers what became of each."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field

from services.contracts.errors import NotFound
from services.contracts.ids import RunId
from services.contracts.planner import PlanEvent, RunEnded, SolveRequest
from tests.fakes import plan_runs

_LONGEST_HOLD_S = 30.0


@dataclass
class PlayedRun:
    """One run: `closed` is set once its iterator is, `events` counts what was yielded."""

    request: SolveRequest
    events: int = 0
    finished: bool = False
    cancelled: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class FakePlanner:
    """See `Planner` and `RunControl`. Waits while held, and `pause_s` before every event.

    A decision lets the runs go on, since what they wait for is that.
    """

    script: Callable[[str], Iterable[PlanEvent]] = plan_runs.short
    pause_s: float = 0.0
    error: Exception | None = None
    """Raised in place of the first event."""
    runs: list[PlayedRun] = field(default_factory=list)
    decisions: list[tuple[int, bool]] = field(default_factory=list)
    """Calls that were decided about, and how."""
    _hold_after: int = 0
    _gate: asyncio.Event = field(default_factory=asyncio.Event)

    _started: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def __post_init__(self) -> None:
        self._gate.set()

    async def wait_started(self, count: int = 1) -> None:
        """Wait until `count` more runs have come in."""
        for _ in range(count):
            await asyncio.wait_for(self._started.acquire(), timeout=_LONGEST_HOLD_S)

    async def wait_closed(self, *, within_s: float) -> PlayedRun:
        """The first run, once its iterator is closed; raises `TimeoutError` otherwise."""
        await asyncio.wait_for(self.runs[0].closed.wait(), timeout=within_s)
        return self.runs[0]

    def hold(self, *, after: int = 0) -> None:
        """Let runs wait once they have yielded `after` events."""
        self._hold_after = after
        self._gate.clear()

    def release(self) -> None:
        """Let them go on."""
        self._gate.set()

    async def cancel(self, run_id: RunId) -> None:
        self._open(run_id).cancelled = True
        self.release()

    async def decide(self, run_id: RunId, call_id: int, *, approve: bool) -> None:
        self._open(run_id)
        self.decisions.append((call_id, approve))
        self.release()

    def _open(self, run_id: RunId) -> PlayedRun:
        for run in self.runs:
            if run.request.run_id == run_id and not run.closed.is_set():
                return run
        raise NotFound(f"no run {run_id!r} is going on")

    async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        run = PlayedRun(request)
        self.runs.append(run)
        self._started.release()
        try:
            if self.error is not None:
                raise self.error
            for event in self.script(request.instruction):
                if run.events >= self._hold_after:
                    await asyncio.wait_for(self._gate.wait(), timeout=_LONGEST_HOLD_S)
                await asyncio.sleep(self.pause_s)
                if run.cancelled:
                    yield RunEnded(kind="cancelled", reason="cancelled by its caller")
                    return
                run.events += 1
                yield event
            run.finished = True
        finally:
            run.closed.set()
