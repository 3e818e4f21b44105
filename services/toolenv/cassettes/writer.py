"""One thread that writes for a whole process, many writes per transaction.

Writes that arrive while one transaction is being made durable share the next one, so a crowd of
them costs a handful of fsyncs. A write is acknowledged after its transaction's commit, never
before.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from services.toolenv.cassettes.database import Durability, connect
from services.toolenv.cassettes.errors import StoreBusy, StoreClosed, StoreFull, explained

log = structlog.get_logger()

Work = Callable[[sqlite3.Connection], int]
"""Statements of one write, without transaction control; the number of rows they changed."""

_MAX_GROUP = 512  # 512 answers of 1 MiB at most: bounds what one transaction holds


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work
    done: "Future[int]" = field(default_factory=Future)


class Writer:
    """The writing connection of a process, behind a bounded queue. Safe to use from any thread."""

    def __init__(
        self, path: Path, *, busy_timeout_s: float, max_queued: int, durability: Durability
    ) -> None:
        """Open the file and start the thread.

        Raises:
            ServiceError: As `database.connect`.
        """
        self._path = path
        self._max_queued = max_queued
        self._queue: queue.Queue[_Job | None] = queue.Queue(max_queued)
        self._connection = connect(path, busy_timeout_s=busy_timeout_s, durability=durability)
        self._identity = _identity(path)
        self._is_closed = False
        self._lock = threading.Lock()  # nothing is queued behind the mark that ends the thread
        self._thread = threading.Thread(target=self._run, name="cassette-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work, *, wait_s: float = 0.0) -> "Future[int]":
        """Queue a write; the future ends when it is durable, or with a `ServiceError`.

        Args:
            work: What to write.
            wait_s: Longest wait for room in the queue, seconds; blocks.

        Raises:
            StoreFull: The queue is full.
            StoreClosed: The writer has been closed.
        """
        job = _Job(work)
        job.done.set_running_or_notify_cancel()  # whoever gives up waiting undoes nothing
        with self._lock:
            if self._is_closed:
                raise StoreClosed(f"cassette file {str(self._path)!r} has been closed")
            try:
                self._queue.put(job, block=wait_s > 0, timeout=wait_s or None)
            except queue.Full as exc:
                raise StoreFull(
                    f"{self._max_queued} writes to {str(self._path)!r} wait already, which is the "
                    "limit; the disk is too slow for this load"
                ) from exc
        return job.done

    def close(self) -> None:
        """Finish what is queued, then close the connection; blocks for at most the busy time."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._next_group()
            if group:
                self._write(group)

    def _next_group(self) -> tuple[list[_Job], bool]:
        """At least one job, and whether more may come."""
        group: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            group.append(job)
            if len(group) == _MAX_GROUP:
                return group, True
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _write(self, group: list[_Job]) -> None:
        try:
            results = self._commit(group)
        except (StoreBusy, StoreClosed) as exc:
            _fail(group, exc)
        except Exception as exc:  # noqa: BLE001  # the worker loop: one bad write ends no other
            if len(group) == 1:
                _fail(group, exc)
            for job in group if len(group) > 1 else ():  # a large answer fails alone
                self._write([job])
        else:
            for job, result in zip(group, results, strict=True):
                job.done.set_result(result)

    def _commit(self, group: list[_Job]) -> list[int]:
        if _identity(self._path) != self._identity:
            raise StoreClosed(
                f"cassette file {str(self._path)!r} was removed or replaced while in use; restart "
                "this process, and use `toolwright cassettes` to change a file that is in use"
            )
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [job.work(self._connection) for job in group]
            self._connection.execute("COMMIT")
        except sqlite3.Error as exc:
            raise explained(exc, self._path) from exc
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return results


def _fail(group: list[_Job], error: Exception) -> None:
    log.error("cassette_write_failed", writes=len(group), error=str(error))
    for job in group:
        job.done.set_exception(error)


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, `None` when nothing is there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
