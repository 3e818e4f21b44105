"""One reading connection per thread, opened when the thread first asks."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from services.toolenv.cassettes.errors import StoreClosed, explained
from services.toolenv.cassettes.recording import Answer
from services.toolenv.cassettes.rows import find_row


class Readers:
    """The reading connections of one file. Safe to use from any thread."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        """Bind the way to open a connection; it is called in the thread that reads."""
        self._path = path
        self._connect = connect
        self._of_thread = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._is_closed = False

    def find(self, key: str) -> Answer | None:
        """The answer recorded under a key, `None` when there is none.

        Raises:
            ServiceError: As `errors.explained`; `StoreClosed` after `close`.
        """
        try:
            return find_row(self.connection(), key)
        except sqlite3.Error as exc:
            raise explained(exc, self._path) from exc

    def connection(self) -> sqlite3.Connection:
        """This thread's connection.

        Raises:
            ServiceError: It cannot be opened; `StoreClosed` after `close`.
        """
        self.check_open()
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._connect()
            self._of_thread.connection = connection
            self._all.append(connection)
        return connection

    def check_open(self) -> None:
        """Return when `close` has not been called.

        Raises:
            StoreClosed: It has.
        """
        if self._is_closed:
            raise StoreClosed(f"cassette file {str(self._path)!r} has been closed")

    def close(self) -> None:
        """Close all connections; nothing may be reading."""
        self._is_closed = True
        while self._all:
            self._all.pop().close()
