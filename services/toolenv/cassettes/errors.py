"""What can be wrong with a cassette file, said with its path and the way to mend it."""

import sqlite3
from pathlib import Path
from typing import Final

from services.contracts.errors import (
    FailedPrecondition,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)


class StoreDamaged(FailedPrecondition):
    """The file is no cassette file, or its content is broken."""


class StoreReadOnly(FailedPrecondition):
    """The file or its folder cannot be written."""


class StoreFull(ResourceExhausted):
    """There is no room: on the disk, within a size limit, or in the queue of writes."""


class StoreBusy(Unavailable):
    """Another process wrote for longer than the time limit."""


class StoreClosed(Unavailable):
    """The store has been closed, or the file behind it was removed or replaced."""


_MEND: Final = (
    "move it and its -wal and -shm files away; a new one is made at the next start, and "
    "`toolwright cassettes import` brings back what was exported or frozen"
)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_REFUSED: Final = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)
_PRIMARY = 0xFF  # an extended result code holds the primary one in its low byte


def explained(exc: sqlite3.Error, path: Path) -> ServiceError:
    """The typed error for what SQLite says about a file.

    Args:
        exc: As the standard library raised it.
        path: The file.
    """
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    said = f"{getattr(exc, 'sqlite_errorname', type(exc).__name__)}: {exc}"
    if code in _DAMAGED:
        return StoreDamaged(f"cassette file {str(path)!r} cannot be read ({said}); {_MEND}")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StoreFull(
            f"cassette file {str(path)!r} cannot grow ({said}): the disk is full or failing; free "
            "some space. What was acknowledged before is safe"
        )
    if code in _REFUSED:
        return StoreReadOnly(
            f"cassette file {str(path)!r} cannot be opened or written ({said}); give this user "
            "write access to the file and its folder, or mount a frozen snapshot instead"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(
            f"cassette file {str(path)!r} is being written by another process ({said}); try again"
        )
    return StoreDamaged(f"cassette file {str(path)!r} is of no use ({said}); {_MEND}")


def foreign(path: Path, application_id: int) -> StoreDamaged:
    """The error for a database of some other program."""
    return StoreDamaged(
        f"{str(path)!r} is a database of another program (application id {application_id:#x}); "
        "name another file"
    )


def other_version(path: Path, version: int, ours: int) -> StoreDamaged:
    """The error for a file of a version that this program does not know."""
    return StoreDamaged(
        f"cassette file {str(path)!r} has format version {version}, this program reads {ours}; "
        "export it with the version that wrote it, then import it here"
    )
