"""How every API has answered so far: access state, share of answered calls, latency.

Counted are answers of the API itself or its code (`live`, `custom`, `remote`); recordings and
simulations say nothing about it. Kept in memory, and added to a SQLite file that several processes
may share; what a crash loses is the counts of the last seconds.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import structlog

from services.contracts.apis import ApiRef
from services.contracts.toolenv import ApiHealth, CallStatus, HealthState, Observation
from services.toolenv.invocation import Invocation

log = structlog.get_logger()

_COUNTED: Final = frozenset({"live", "custom", "remote"})
_ANSWERED: Final = frozenset({CallStatus.OK, CallStatus.TOOL_ERROR, CallStatus.INVALID_ARGUMENTS})
_STATES: Final = {
    CallStatus.OK: HealthState.OK,
    CallStatus.TOOL_ERROR: HealthState.OK,
    CallStatus.UNSUBSCRIBED: HealthState.UNSUBSCRIBED,
    CallStatus.UNAUTHORIZED: HealthState.UNAUTHORISED,
    CallStatus.BLOCKED: HealthState.BLOCKED,
    CallStatus.TOO_MANY_REQUESTS: HealthState.QUOTA,
    CallStatus.RATE_LIMITED: HealthState.QUOTA,
}
_BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
create table if not exists health (
  ref text primary key, state text not null, calls integer not null, answered integer not null,
  latency_sum_s real not null, last_status text not null, last_called_at real not null
) without rowid
"""
_ADD = """
insert into health values (?, ?, ?, ?, ?, ?, ?)
on conflict (ref) do update set
  state = case excluded.state when 'unknown' then state else excluded.state end,
  calls = calls + excluded.calls, answered = answered + excluded.answered,
  latency_sum_s = latency_sum_s + excluded.latency_sum_s,
  last_status = excluded.last_status, last_called_at = excluded.last_called_at
"""


@dataclass(slots=True)
class _Counts:
    """What was seen of one API, here or in the file."""

    state: HealthState = HealthState.UNKNOWN
    calls: int = 0
    answered: int = 0
    latency_sum_s: float = 0.0
    last_status: CallStatus = CallStatus.OK
    last_called_at: float = 0.0


class HealthBook:
    """Counts calls and keeps the counts; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Bind the file; it is made at the first `flush`."""
        self._path = path
        self._lock = Lock()
        self._new: dict[ApiRef, _Counts] = {}

    def observe(self, invocation: Invocation, observation: Observation) -> None:
        """Count one finished call, and the failed tries before it."""
        ref = invocation.entry.document.ref
        for attempt in observation.attempts:
            if attempt.status is not None and attempt.source in _COUNTED:
                self._count(ref, attempt.status, 0.0)
        if observation.tried in _COUNTED:
            self._count(ref, observation.status, observation.latency_s)

    def _count(self, ref: ApiRef, status: CallStatus, latency_s: float) -> None:
        with self._lock:
            counts = self._new.setdefault(ref, _Counts())
            counts.calls += 1
            if status in _ANSWERED:
                counts.answered += 1
                counts.latency_sum_s += latency_s
            counts.state = _STATES.get(status, counts.state)
            counts.last_status, counts.last_called_at = status, time.time()

    def flush(self) -> None:
        """Add what was counted to the file; blocking. A failure is logged and nothing is lost."""
        with self._lock:
            new, self._new = self._new, {}
        if not new:
            return
        try:
            with self._open() as database, database:
                database.executemany(_ADD, list(_rows(new)))
        except (sqlite3.Error, OSError) as exc:  # the folder may be gone
            log.warning("health_not_saved", path=str(self._path), error=str(exc))
            self._put_back(new)

    def report(self, missing: Iterable[tuple[ApiRef, tuple[str, ...]]] = ()) -> list[ApiHealth]:
        """Health of every API that was ever called, ordered by address; blocking.

        Args:
            missing: APIs that lack credentials, with the names of those; listed even if uncalled.
        """
        self.flush()
        lacking = dict(missing)
        known = self._saved()
        refs = sorted({*known, *lacking}, key=str)
        return [_health(ref, known.get(ref), lacking.get(ref, ())) for ref in refs]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)) as database:
            database.execute("pragma journal_mode = wal")
            database.execute(_SCHEMA)
            yield database

    def _saved(self) -> dict[ApiRef, _Counts]:
        try:
            with self._open() as database:
                rows = database.execute("select * from health").fetchall()
        except (sqlite3.Error, OSError) as exc:
            log.warning("health_not_read", path=str(self._path), error=str(exc))
            with self._lock:
                return dict(self._new)
        return dict(self._readable(rows))

    def _readable(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[ApiRef, _Counts]]:
        """The rows that hold what they should; one that does not hides no other."""
        for row in rows:
            try:
                yield ApiRef.parse(row[0]), _counts(row[1:])
            except (
                ValueError,
                TypeError,
                AttributeError,
            ) as exc:  # written by hand, or by a later version
                log.warning(
                    "health_not_read", path=str(self._path), row=repr(row)[:200], error=str(exc)
                )

    def _put_back(self, lost: dict[ApiRef, _Counts]) -> None:
        with self._lock:
            for ref, old in lost.items():
                newer = self._new.setdefault(ref, old)
                if newer is not old:
                    newer.calls += old.calls
                    newer.answered += old.answered
                    newer.latency_sum_s += old.latency_sum_s


@asynccontextmanager
async def saving(book: HealthBook, *, period_s: float) -> AsyncIterator[None]:
    """Flush a book every `period_s` seconds, and once more at the end of the context."""

    async def keep_saving() -> None:
        while True:
            await asyncio.sleep(period_s)
            await asyncio.to_thread(book.flush)

    task = asyncio.create_task(keep_saving(), name="health-book")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await asyncio.to_thread(book.flush)


def _rows(counted: dict[ApiRef, _Counts]) -> Iterator[tuple[str | int | float, ...]]:
    for ref, counts in counted.items():
        yield (
            str(ref),
            counts.state.value,
            counts.calls,
            counts.answered,
            counts.latency_sum_s,
            counts.last_status.value,
            counts.last_called_at,
        )


def _counts(row: tuple[str, int, int, float, str, float]) -> _Counts:
    state, calls, answered, latency_sum_s, last_status, last_called_at = row
    return _Counts(
        HealthState(state), calls, answered, latency_sum_s, CallStatus(last_status), last_called_at
    )


def _health(ref: ApiRef, counts: _Counts | None, missing: tuple[str, ...]) -> ApiHealth:
    if counts is None:
        return ApiHealth(ref=ref, missing_credentials=missing)
    answered = counts.answered
    return ApiHealth(
        ref=ref,
        state=counts.state,
        calls=counts.calls,
        success_rate=(answered + 1) / (counts.calls + 2),
        mean_latency_s=counts.latency_sum_s / answered if answered else None,
        last_status=counts.last_status,
        last_called_at=counts.last_called_at,
        missing_credentials=missing,
    )
