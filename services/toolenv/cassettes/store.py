"""The store of recorded answers: one SQLite file that several processes may use at once.

Reads take microseconds and may be made on an event loop's thread; each thread has its own
connection. Writes go through one thread (`writer`) and are acknowledged when they are durable.
A process that forks opens its store after the fork, as SQLite demands.
"""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from services.contracts.errors import InvalidArgument, ServiceError
from services.toolenv.cassettes import rows
from services.toolenv.cassettes.database import Durability, attach_frozen, connect, create
from services.toolenv.cassettes.errors import StoreBusy, explained
from services.toolenv.cassettes.key import KEY_CHARS
from services.toolenv.cassettes.readers import Readers
from services.toolenv.cassettes.recording import Answer, Miss, Recording
from services.toolenv.cassettes.rows import EVERYTHING, Conflict, Filter, Order, Summary
from services.toolenv.cassettes.writer import Writer

MAX_MISSES: Final = 10_000
"""Misses kept; the ones asked for longest ago make room."""
_TRIM_EVERY = 256  # misses; finding the oldest takes a millisecond
_BULK_CACHE_KIB = 131_072  # the index of a million keys is written in no order of its pages


class Added(NamedTuple):
    """What a bulk write did."""

    added: int
    """Entries that are new, or took the place of an older one."""
    kept: int
    """Entries whose call was recorded already and stayed as it was."""


class StoreInfo(NamedTuple):
    """What is in a store, and how large it is."""

    n_bytes: int
    """Size of the file and its log."""
    summary: Summary


class Store:
    """Recorded answers by content address. Safe to use from any thread; whoever opens it closes it.

    A call that is recorded again keeps the newest answer, except that an error never takes the
    place of a good one. Every method raises `StoreDamaged`, `StoreBusy`, `StoreClosed` or, where it
    writes, `StoreFull` and `StoreReadOnly`, each with the path and the fix.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "power",
        busy_timeout_s: float = 5.0,
        read_timeout_s: float = 0.1,
        max_queued: int = 4096,
    ) -> None:
        """Open the file, made with its folder where it is missing; blocking file access.

        Args:
            path: The file; never on a network file system, whose locks SQLite cannot trust.
            durability: What an acknowledged write survives.
            busy_timeout_s: Longest wait for another process that writes, seconds.
            read_timeout_s: Longest wait of a read, seconds; readers wait only while the file is
                recovered after a crash.
            max_queued: Writes of this process that may wait; one more is refused.
        """
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._read_timeout_s = read_timeout_s
        self._durability: Durability = durability
        self._readers = Readers(path, self._connect_reader)
        self._noted = itertools.count(1)
        create(path, busy_timeout_s=busy_timeout_s)
        self._writer = Writer(
            path, busy_timeout_s=busy_timeout_s, max_queued=max_queued, durability=durability
        )

    def close(self) -> None:
        """Finish the writes that wait, then close the file; nothing else may be in progress."""
        self._writer.close()
        self._readers.close()

    def find(self, key: str) -> Answer | None:
        """The answer recorded under a key, `None` when there is none; takes microseconds."""
        return self._readers.find(key)

    async def put(self, recording: Recording, *, timeout_s: float = 10.0) -> bool:
        """Record one answer; returns when it is durable.

        Returns:
            `False` when a good answer was there already and this one is an error.

        Raises:
            StoreBusy: It was not durable within `timeout_s`; it may still become so.
        """
        written = asyncio.wrap_future(self._submit_put(recording))
        try:
            async with asyncio.timeout(timeout_s):
                return await written > 0
        except TimeoutError as exc:
            raise StoreBusy(
                f"a write to {str(self.path)!r} was not durable within {timeout_s:.3g} s"
            ) from exc

    def put_now(self, recording: Recording) -> bool:
        """As `put`, for a thread that may block."""
        return self._submit_put(recording).result() > 0

    def _submit_put(self, recording: Recording) -> Future[int]:
        def work(connection: sqlite3.Connection) -> int:
            n_changed = rows.insert_rows(connection, [recording], on_conflict="replace")
            rows.forget_answered_misses(connection, [recording.key])
            return n_changed

        return self._writer.submit(work)

    def put_many(self, recordings: Iterable[Recording], *, on_conflict: Conflict = "keep") -> Added:
        """Record many answers in one transaction: all of them, or none when this raises.

        Blocks. Other writers wait until it ends, so prepare the recordings before.

        Args:
            recordings: Read once, as they are written; what reading them raises undoes everything.
            on_conflict: `keep` leaves calls that are recorded already as they are.
        """
        n_seen = 0

        def counted() -> Iterator[Recording]:
            nonlocal n_seen
            for n_seen, recording in enumerate(recordings, 1):  # noqa: B007  # the last is kept
                yield recording

        with self._transaction() as connection:
            n_changed = rows.insert_rows(connection, counted(), on_conflict=on_conflict)
            rows.forget_answered_misses(connection, None)
        return Added(n_changed, n_seen - n_changed)

    def absorb(self, file: Path, *, on_conflict: Conflict = "keep") -> Added:
        """As `put_many`, from another cassette file that nobody writes; reading it is fast."""
        with self._transaction(attached=file) as connection:
            n_changed = rows.copy_attached(connection, on_conflict=on_conflict)
            rows.forget_answered_misses(connection, None)
            n_seen = rows.count_attached(connection)
        return Added(n_changed, n_seen - n_changed)

    def count(self, wanted: Filter = EVERYTHING) -> int:
        """How many recordings match."""
        with self._reading() as connection:
            return rows.count_recordings(connection, wanted)

    def recordings(
        self, wanted: Filter = EVERYTHING, *, order: Order = "newest", limit: int | None = None
    ) -> Iterator[Recording]:
        """Recordings as they were at the first, whatever is written meanwhile."""
        with self._reading() as connection:
            yield from rows.select_recordings(connection, wanted, order=order, limit=limit)

    def delete(self, wanted: Filter) -> int:
        """Remove what matches, durably; how many."""
        with self._transaction() as connection:
            return rows.delete_recordings(connection, wanted)

    def note_miss(self, miss: Miss) -> bool:
        """Add a call to the list of misses, soon; `False` when there is no room in the queue."""
        must_trim = next(self._noted) % _TRIM_EVERY == 0

        def work(connection: sqlite3.Connection) -> int:
            rows.note_miss(connection, miss)
            if must_trim:
                rows.forget_oldest_misses(connection, keep=MAX_MISSES)
            return 1

        try:
            self._writer.submit(work)
        except ServiceError:
            return False
        return True

    def misses(self, *, limit: int = MAX_MISSES) -> list[Miss]:
        """Calls that were asked for in vain, the most recent first."""
        with self._reading() as connection:
            return rows.select_misses(connection, limit=limit)

    def clear_misses(self) -> int:
        """Empty the list of misses; how many there were."""
        with self._transaction() as connection:
            return rows.delete_misses(connection)

    def flush(self, *, timeout_s: float = 10.0) -> None:
        """Return when everything submitted before is durable; blocks.

        Raises:
            StoreBusy: That took longer.
        """
        try:
            self._writer.submit(lambda _: 0, wait_s=timeout_s).result(timeout_s)
        except TimeoutError as exc:
            raise StoreBusy(
                f"writes to {str(self.path)!r} were not finished within {timeout_s} s"
            ) from exc

    def info(self) -> StoreInfo:
        """What is in the store; reads all of its entries."""
        with self._reading() as connection:
            return StoreInfo(_size_of(self.path), rows.summary(connection))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for a long read: a thread's own may be asked meanwhile."""
        with closing(self._connect()) as connection:
            try:
                yield connection
            except sqlite3.Error as exc:
                raise explained(exc, self.path) from exc

    @contextmanager
    def _transaction(self, *, attached: Path | None = None) -> Iterator[sqlite3.Connection]:
        """A write of its own, outside the queue; durable at the end of the block."""
        with closing(self._connect()) as connection:
            try:
                if attached is not None:
                    attach_frozen(connection, attached)
                connection.execute(f"PRAGMA cache_size = -{_BULK_CACHE_KIB}")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as exc:
                raise explained(exc, self.path) from exc
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        self._readers.check_open()
        return connect(self.path, busy_timeout_s=self._busy_timeout_s, durability=self._durability)

    def _connect_reader(self) -> sqlite3.Connection:
        return connect(self.path, busy_timeout_s=self._read_timeout_s)


def _size_of(path: Path) -> int:
    parts = (path, path.with_name(f"{path.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def default_path(home: Path) -> Path:
    """Where the tool environment keeps its record, below `TOOLWRIGHT_HOME`."""
    return home / "toolenv" / "cassettes.db"


def check_key(text: str) -> str:
    """A key as a user types it.

    Raises:
        InvalidArgument: It is not 64 hexadecimal digits.
    """
    if len(text) == KEY_CHARS and all(digit in "0123456789abcdef" for digit in text):
        return text
    raise InvalidArgument(
        f"{text[:80]!r} is no key: one has {KEY_CHARS} lower-case hexadecimal digits; "
        "`toolwright cassettes list --json` shows them"
    )


def age_s(recorded_at: float, *, clock: Callable[[], float] = time.time) -> float:
    """Seconds since a recording was made; 0 when the clock has been set back since."""
    return max(0.0, clock() - recorded_at)
