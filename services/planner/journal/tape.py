"""A run's journal while the run goes on: what it holds is played, the rest is asked and recorded.

One tape serves a new run (nothing to play), a resumed one (plays, then records) and a replay (plays
only). Requests find their answers by key and number, so that neither their order nor how many are
under way at once matters. A search is a function of what it is told; the readings of its clock are
part of that.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from time import monotonic
from typing import Final, TypeVar

from services.contracts.errors import FailedPrecondition, ServiceError, from_problem
from services.contracts.planner import (
    ApprovalAsked,
    Deliberated,
    ModelDelta,
    ModelReplied,
    PlanEvent,
    Retrieved,
    RunEnded,
    ToolFinished,
)
from services.kit.channel import Report
from services.planner.budget import BudgetSpent, Spent
from services.planner.journal.entries import (
    Answer,
    End,
    Header,
    Left,
    Port,
    Record,
    planner_version,
)
from services.planner.journal.file import JournalFile
from services.planner.journal.keys import ConversationKeys
from services.planner.journal.pieces import InOrder, Marks
from services.planner.journal.turnstile import Turnstile

T = TypeVar("T")
Tell = Report[PlanEvent]
_FROM_RECORD: Final = (
    "run_id",
    "is_kept",
    "seconds",
    "cost_usd",
    "extra_llm_calls",
    "extra_tool_calls",
    "extra_usage",
)
"""Of the last event, what the search does not decide."""
_SAME: Final = ("kind", "answer", "limit", "llm_calls", "tool_calls", "usage")
"""Of the last event, what a true replay comes to again."""


class Tape:
    """One run's journal. For one event loop; `close` it."""

    def __init__(self, record: Record, file: JournalFile | None) -> None:
        """Begin at the start of a record.

        Args:
            record: What is known.
            file: Where the rest is kept; `None` records nothing.
        """
        self.keys = ConversationKeys()
        self._record = record
        self._file = file
        self._asked: Counter[tuple[Port, str]] = Counter()
        self._readings: list[float] = []
        self._measured: list[tuple[str, float]] = []
        self._left: list[Left] = []
        self._marks = Marks()
        self._live_since: float | None = None
        self._last_reading = 0.0
        self._ran_out = False
        self._has_ended = False
        is_parallel = record.header.request.mode == "parallel"
        self._turnstile = Turnstile(record.order) if is_parallel else None
        self.mismatch: FailedPrecondition | None = None
        """Why a replay is none."""

    @property
    def header(self) -> Header:
        """What decides the run."""
        return self._record.header

    @property
    def is_recording(self) -> bool:
        """Further answers are kept."""
        return self._file is not None

    @property
    def has_end(self) -> bool:
        """The record says how the run ended."""
        return self._record.end is not None

    def number(self, port: Port, key: str) -> int:
        """Of the request that is made now, among equal ones."""
        self._asked[port, key] += 1
        return self._asked[port, key]

    async def recorded(self, port: Port, key: str, n: int) -> Answer | None:
        """The recorded answer, if there is one, when it is its turn."""
        answer = self._record.take(port, key, n, any_number=self._file is None)
        if answer is not None and self._turnstile is not None:
            await self._turnstile.recorded((port, key, answer.n))
        return answer

    async def known(self, port: Port, key: str, n: int) -> Answer | None:
        """See `recorded`.

        Raises:
            ServiceError: The recorded one.
        """
        answer = await self.recorded(port, key, n)
        if answer is not None and answer.problem is not None:
            raise from_problem(answer.problem)
        return answer

    def decision(self, call_id: int) -> bool | None:
        """What was decided about a call, see `Approvals`; `None` when nothing was."""
        answer = self._record.take("approve", str(call_id), 1)
        return bool(answer.value) if answer is not None else None

    def keep_decision(self, call_id: int, *, approve: bool) -> None:
        """Record what was decided about a call."""
        self.keep("approve", str(call_id), 1, f'"value":{json.dumps(approve)}')

    def was_begun(self, key: str, n: int) -> bool:
        """A call that changes something was begun, and what came of it is not known."""
        return (key, n) in self._record.intents

    def keep(self, port: Port, key: str, n: int, value: str, *, latency_s: float = 0.0) -> None:
        """Record an answer.

        Args:
            port: Who answered.
            key: What was asked.
            n: See `number`.
            value: JSON text.
            latency_s: How long it took.
        """
        self._append(f'"kind":"{port}","key":"{key}","n":{n},"latency_s":{latency_s:.6f},{value}')

    async def intend(self, key: str, n: int) -> None:
        """Record that a call that changes something is about to be made.

        Raises:
            Unavailable: That cannot be written, so the call must not be made.
        """
        if self._file is not None:
            body = f'"kind":"intent","key":"{key}","n":{n}{self._pending()}'
            try:
                await self._file.append_durably(f"{{{body}}}")
            except asyncio.CancelledError:
                self.leave("tool", key, n)
                raise

    async def asked(
        self, port: Port, key: str, n: int, live: Awaitable[T], write: Callable[[T], str]
    ) -> T:
        """What the port itself answers, which is recorded; a failing service is too."""
        try:
            return await self._answered(port, key, n, live, write)
        except asyncio.CancelledError:
            self.leave(port, key, n)
            raise

    async def _answered(
        self, port: Port, key: str, n: int, live: Awaitable[T], write: Callable[[T], str]
    ) -> T:
        began = monotonic()
        try:
            value = await live
        except ServiceError as exc:
            latency_s = monotonic() - began
            await self.hand_over()
            problem = f'"problem":{exc.to_problem().model_dump_json()}'
            self.keep(port, key, n, problem, latency_s=latency_s)
            raise
        latency_s = monotonic() - began
        await self.hand_over()
        self.keep(port, key, n, f'"value":{write(value)}', latency_s=latency_s)
        return value

    def leave(self, port: Port, key: str, n: int, pieces: Sequence[str] = ()) -> None:
        """Record that nobody waits for an answer any more.

        Args:
            port: Who was asked.
            key: What for.
            n: See `number`.
            pieces: Of a reply, those that have come.
        """
        if self._file is not None:
            self._left.append(Left(port=port, key=key, n=n, pieces=tuple(pieces)))

    def left(self, port: Port, key: str, n: int) -> tuple[str, ...] | None:
        """The pieces that had come of an answer that was not waited for; `None` for any other."""
        return self._record.left.get((port, key, n))

    async def hand_over(self) -> None:
        """Wait for an answer's turn, where several may come at once."""
        if self._turnstile is not None:
            await self._turnstile.live()

    async def missing(self, port: Port, key: str, n: int, what: str) -> Exception:
        """What a replay raises where its record has no answer.

        A run that did not wait for the answer had come to its deadline, was cancelled, or had found
        what it looked for on another branch.
        """
        if self._turnstile is not None:
            await self._turnstile.none()
        end = self._record.end
        has_ended_here = end is None or end.kind == "cancelled" or end.limit == "deadline_s"
        if has_ended_here or self.left(port, key, n) is not None:
            self._ran_out = True
            reason = end.reason if end is not None else None
            return BudgetSpent(Spent("deadline_s", reason or "the record ends here"))
        self.mismatch = FailedPrecondition(
            f"the record of run {self.header.run_id!r} has no answer of port {port!r} to {what}; "
            f"it was made by planner {self.header.planner}, this is planner {planner_version()}"
        )
        return self.mismatch

    def clock(self) -> float:
        """Seconds since the run began, for its budget.

        The recorded readings come first; a resumed run's time counts from the moment it goes on.
        """
        if self._record.clock:
            self._last_reading = self._record.clock.popleft()
        elif self._file is not None:
            now = monotonic()
            if self._live_since is None:
                self._live_since = now
            self._last_reading = round(now - self._live_since, 6)
            self._readings.append(self._last_reading)
        elif self._record.end is not None:
            self._last_reading = max(self._last_reading, self._record.end.seconds)
        return self._last_reading

    def telling(self, tell: Tell) -> Tell:
        """Tell events with the times, and in the order, that they had when they were recorded."""
        if self._turnstile is not None:
            tell = self._marking(tell) if self.is_recording else self._sorting(tell)

        async def timed(event: PlanEvent, /, *, until: float = inf) -> None:
            event = self._ended(event) if isinstance(event, RunEnded) else self._timed(event)
            await tell(event, until=until)

        return timed

    def _marking(self, tell: Tell) -> Tell:
        """Note where pieces of replies stand.

        Only they wait for the run's reader: were other events to wait, what goes on side by side
        would go on in an order that depends on the reader, and no replay has that one.
        """

        async def marked(event: PlanEvent, /, *, until: float = inf) -> None:
            await tell(event, until=until if isinstance(event, ModelDelta) else 0.0)
            self._marks.note(event)

        return marked

    def _sorting(self, tell: Tell) -> Tell:
        """Tell pieces of replies where they stood."""
        in_order = InOrder(self._record.marks)

        async def ordered(event: PlanEvent, /, *, until: float = inf) -> None:
            for due in in_order.due(event):
                await tell(due, until=until)

        return ordered

    def end(self, event: RunEnded) -> RunEnded:
        """Record how the run ended; the event as it is to be told."""
        if self._file is None or self._has_ended:
            return event
        self._has_ended = True
        kept = event.model_copy(update={"run_id": self.header.run_id, "is_kept": True})
        short = kept.model_copy(update={"record": None, "solution_path": ()})
        self._append(End(event=short).model_dump_json()[1:-1])
        return kept if self._file.is_kept else event

    def discard(self) -> None:
        """Keep nothing of a new run that never began."""
        if self._file is not None and self._record.size == 0:
            self._file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _ended(self, event: RunEnded) -> RunEnded:
        if self._file is not None:
            return self.end(event)
        end = self._record.end
        if end is None or self.mismatch is not None:
            return event
        if self._ran_out and end.kind == "cancelled":
            return end
        different = [name for name in _SAME if getattr(end, name) != getattr(event, name)]
        if different:
            self.mismatch = FailedPrecondition(
                f"the search of run {self.header.run_id!r} ends otherwise than it did: "
                f"{', '.join(different)}; it was made by planner {self.header.planner}, this is "
                f"planner {planner_version()}"
            )
        return event.model_copy(update={name: getattr(end, name) for name in _FROM_RECORD})

    def _timed(self, event: PlanEvent) -> PlanEvent:
        found = _measure(event)
        if found is None:
            return event
        key, name, seconds = found
        known = self._record.measured.get(key)
        if known:
            return event.model_copy(update={name: known.popleft()})
        if self._file is not None:
            self._measured.append((key, seconds))
        return event

    def _append(self, members: str) -> None:
        if self._file is not None:
            self._file.append(f"{{{members}{self._pending()}}}")

    def _pending(self) -> str:
        """Times since the last line, as members of the next one."""
        parts = ""
        if self._readings:
            parts = f',"clock":{self._readings}'
            self._readings = []
        if self._left:
            parts += f',"left":[{",".join(left.model_dump_json() for left in self._left)}]'
            self._left = []
        marks = self._marks.taken()
        if marks:
            parts += f',"marks":{json.dumps(marks)}'
        if self._measured:
            pairs = ",".join(f'["{key}",{seconds!r}]' for key, seconds in self._measured)
            parts += f',"measured":[{pairs}]'
            self._measured = []
        return parts


def _measure(event: PlanEvent) -> tuple[str, str, float] | None:
    """Key, field and value of the time that an event tells; `None` when it tells none."""
    match event:
        case ModelReplied():
            return f"replied:{event.expansion}", "latency_s", event.latency_s
        case ToolFinished():
            return f"finished:{event.call_id}", "latency_s", event.latency_s
        case Deliberated():
            return f"{event.purpose}:{event.node_id}", "latency_s", event.latency_s
        case Retrieved():
            return "retrieved", "latency_s", event.latency_s
        case ApprovalAsked():
            return f"approval:{event.call_id}", "expires_in_s", event.expires_in_s
    return None
