"""Opens cassette files: connections, schema, and the pragmas that decide speed and durability.

A file is never opened except through SQLite: POSIX drops all locks of a process on a file when the
process closes any descriptor of it (https://www.sqlite.org/howtocorrupt.html, section 2.2).

The rows are not memory-mapped: mapping saves 2.5 of 11 microseconds per read among a million
entries, but a file that is truncated in place would end the process with SIGBUS.
"""

import os
import sqlite3
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from services.contracts.errors import FailedPrecondition
from services.toolenv.cassettes.errors import (
    StoreDamaged,
    StoreReadOnly,
    explained,
    foreign,
    other_version,
)

Durability = Literal["power", "process"]
"""What an acknowledged write survives: loss of power (one fsync per group of writes), or only the
end of the process by whatever signal (no fsync; a power loss may take the last writes, but never
damages the file)."""

APPLICATION_ID: Final = 0x546C5743  # "TlWC", so that `file` and we know a cassette file
FORMAT_VERSION: Final = 1
_SYNCHRONOUS: Final = {"power": "FULL", "process": "NORMAL"}
_CACHE_KIB = 16_384
_WAL_LIMIT_BYTES = 64 << 20  # what a large import leaves of its log

# The rows lie in order of arrival and the index holds only keys, so that long contents do not
# spread what a look-up touches; among a million entries it reads three small pages and one row.
SCHEMA: Final = (
    """CREATE TABLE recordings (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        category TEXT NOT NULL,
        tool TEXT NOT NULL,
        api TEXT NOT NULL,
        arguments TEXT NOT NULL,
        content TEXT NOT NULL,
        status TEXT NOT NULL,
        source TEXT NOT NULL,
        upstream_status INTEGER,
        latency_s REAL NOT NULL,
        recorded_at REAL NOT NULL
    )""",
    "CREATE INDEX recordings_by_api ON recordings (category, tool, api)",
    """CREATE TABLE misses (
        key BLOB PRIMARY KEY NOT NULL,
        category TEXT NOT NULL,
        tool TEXT NOT NULL,
        api TEXT NOT NULL,
        arguments TEXT NOT NULL,
        times INTEGER NOT NULL,
        last_at REAL NOT NULL
    )""",
    "CREATE TABLE seal (sha256 TEXT NOT NULL, entries INTEGER NOT NULL)",
)


def create(path: Path, *, busy_timeout_s: float) -> None:
    """Make sure that a cassette file with our schema is there; safe against other processes.

    Raises:
        StoreDamaged: Something else is there.
        StoreReadOnly: It cannot be made or opened.
        StoreFull: There is no room for it.
        StoreBusy: Another process did not let go of it in time.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Recordings may hold what users asked: nobody else reads them.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as exc:
        raise StoreReadOnly(
            f"cassette file {str(path)!r} cannot be made: {exc.strerror}; set TOOLWRIGHT_HOME to a "
            "folder that can be written"
        ) from exc
    connection = connect(path, busy_timeout_s=busy_timeout_s)
    try:
        _prepare(connection, path)
    except sqlite3.Error as exc:
        raise explained(exc, path) from exc
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == FORMAT_VERSION:
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if _version(connection, path) != FORMAT_VERSION:  # another process was faster
        build(connection)
    connection.execute("COMMIT")


def build(connection: sqlite3.Connection) -> None:
    """Give an empty database our schema and mark."""
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Format version of a cassette file; 0 when the file is empty."""
    application_id = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if application_id == 0 and version == 0 and tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise foreign(path, application_id)
    if version != FORMAT_VERSION:
        raise other_version(path, version, FORMAT_VERSION)
    return version


def connect(
    path: Path, *, busy_timeout_s: float, durability: Durability = "power"
) -> sqlite3.Connection:
    """A connection to a cassette file that other processes may use as well.

    Transactions are begun by hand. It may be closed, but not used, by another thread.

    Raises:
        ServiceError: As `create`.
    """
    try:
        connection = _opened(_uri(path, "mode=rw"), busy_timeout_s)
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    except sqlite3.Error as exc:
        raise explained(exc, path) from exc
    return connection


def connect_frozen(path: Path) -> sqlite3.Connection:
    """A connection to a file that nobody changes any more: neither locks nor side files.

    Raises:
        FailedPrecondition: There is no such file, or it is no cassette file.
    """
    if not path.is_file():
        raise FailedPrecondition(f"there is no snapshot at {str(path)!r}; check the path")
    with ExitStack() as undo:
        try:
            connection = _opened(_uri(path, "mode=ro&immutable=1"), 0.0)
            undo.callback(connection.close)
            version = _version(connection, path)
        except sqlite3.Error as exc:
            raise explained(exc, path) from exc
        if version == 0:
            raise StoreDamaged(f"snapshot {str(path)!r} is empty; freeze or copy it again")
        undo.pop_all()
    return connection


def attach_frozen(connection: sqlite3.Connection, path: Path) -> None:
    """Add a file that nobody writes to a connection, under the name `attached`."""
    connection.execute("ATTACH DATABASE ? AS attached", (_uri(path, "mode=ro&immutable=1"),))


def create_private(path: Path) -> sqlite3.Connection:
    """A connection to a new cassette file that nobody else uses until it is finished.

    It is not safe against crashes: whoever writes it gives it its real name at the end.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        build(connection)
    except sqlite3.Error as exc:
        raise explained(exc, path) from exc
    return connection


def _uri(path: Path, options: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{options}"


def _opened(uri: str, busy_timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection
