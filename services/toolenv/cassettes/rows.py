"""The SQL of a cassette file: rows in, rows out. Transactions belong to the caller."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from services.contracts.toolenv import CallStatus, ObservationSource
from services.toolenv.cassettes.recording import Answer, Miss, Recording

Conflict = Literal["keep", "replace"]
"""What happens to an entry whose key is there already."""
Order = Literal["key", "newest"]

_FIND = (
    "SELECT content, status, source, upstream_status, latency_s, recorded_at "
    "FROM recordings WHERE key = ?"
)
_COLUMNS = ", ".join(Recording._fields)
_INSERT = f"INSERT INTO recordings ({_COLUMNS}) VALUES ({', '.join('?' * 11)}) ON CONFLICT (key) "  # noqa: S608  # only our own field names
_SETS = ", ".join(f"{name} = excluded.{name}" for name in Answer._fields)
_ON_CONFLICT: Final[dict[Conflict, str]] = {
    "keep": "DO NOTHING",
    # The newest answer wins, but an error never takes the place of a good answer.
    "replace": f"DO UPDATE SET {_SETS} WHERE recordings.status <> 'ok' OR excluded.status = 'ok'",
}
_ORDERS: Final[dict[Order, str]] = {"key": "ORDER BY key", "newest": "ORDER BY id DESC"}
_NOTE = (
    "INSERT INTO misses (key, category, tool, api, arguments, times, last_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
    "times = times + excluded.times, last_at = excluded.last_at"
)
_FORGET_OLDEST = (
    "DELETE FROM misses WHERE key IN "
    "(SELECT key FROM misses ORDER BY last_at LIMIT max(0, (SELECT count(*) FROM misses) - ?))"
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which recordings are meant; conditions that are set must all hold."""

    category: str | None = None
    tool: str | None = None
    api: str | None = None
    key: str | None = None
    source: ObservationSource | None = None
    before: float | None = None
    """Recorded before this Unix time, seconds."""

    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL, and its values."""
        equals = {
            "category": self.category,
            "tool": self.tool,
            "api": self.api,
            "key": None if self.key is None else bytes.fromhex(self.key),
            "source": self.source,
        }
        used = {name: value for name, value in equals.items() if value is not None}
        terms = [f"{name} = ?" for name in used]
        values: list[object] = list(used.values())
        if self.before is not None:
            terms.append("recorded_at < ?")
            values.append(self.before)
        return (f" WHERE {' AND '.join(terms)}" if terms else ""), values


EVERYTHING: Final = Filter()


class Seal(NamedTuple):
    """What identifies the content of a snapshot or export."""

    sha256: str
    """Of its lines in the order of their keys, see `cassettes.recording`."""
    entries: int


class Summary(NamedTuple):
    """Figures about everything in a file."""

    entries: int
    apis: int
    misses: int
    sources: dict[str, int]
    """Entries by who gave the answer."""
    statuses: dict[str, int]
    """Entries by outcome."""
    oldest_at: float | None
    """Unix time, seconds; `None` without entries."""
    newest_at: float | None


def find_row(connection: sqlite3.Connection, key: str) -> Answer | None:
    """The answer recorded under a key."""
    row = connection.execute(_FIND, (bytes.fromhex(key),)).fetchone()
    if row is None:
        return None
    content, status, *rest = row
    return Answer(content, CallStatus(status), *rest)


def insert_rows(
    connection: sqlite3.Connection, recordings: Iterable[Recording], *, on_conflict: Conflict
) -> int:
    """Write recordings; the number of rows that were added or replaced."""
    before = connection.total_changes
    connection.executemany(
        _INSERT + _ON_CONFLICT[on_conflict],
        ((bytes.fromhex(recording[0]), *recording[1:]) for recording in recordings),
    )
    return connection.total_changes - before


def copy_attached(connection: sqlite3.Connection, *, on_conflict: Conflict) -> int:
    """Copy the recordings of the attached file; how many were added or replaced."""
    before = connection.total_changes
    connection.execute(
        # `WHERE true`: without it SQLite takes ON CONFLICT for the ON of a join.
        f"INSERT INTO main.recordings ({_COLUMNS}) SELECT {_COLUMNS} FROM attached.recordings "  # noqa: S608  # only our own names
        f"WHERE true ORDER BY id ON CONFLICT (key) {_ON_CONFLICT[on_conflict]}"
    )
    return connection.total_changes - before


def count_attached(connection: sqlite3.Connection) -> int:
    """How many recordings the attached file has."""
    return int(connection.execute("SELECT count(*) FROM attached.recordings").fetchone()[0])


def write_seal(connection: sqlite3.Connection, seal: Seal) -> None:
    """Mark a file as a snapshot."""
    connection.execute("INSERT INTO seal (sha256, entries) VALUES (?, ?)", seal)


def read_seal(connection: sqlite3.Connection) -> Seal | None:
    """What a snapshot promises about itself; `None` in any other file."""
    row = connection.execute("SELECT sha256, entries FROM seal").fetchone()
    return None if row is None else Seal(*row)


def forget_answered_misses(connection: sqlite3.Connection, keys: Iterable[str] | None) -> None:
    """Strike misses off the list that have been recorded since; all such when `None`."""
    if keys is None:
        connection.execute("DELETE FROM misses WHERE key IN (SELECT key FROM recordings)")
    else:
        connection.executemany(
            "DELETE FROM misses WHERE key = ?", ((bytes.fromhex(key),) for key in keys)
        )


def select_recordings(
    connection: sqlite3.Connection, wanted: Filter, *, order: Order, limit: int | None
) -> Iterator[Recording]:
    """Recordings one after the other; the connection is in use until the last."""
    where, values = wanted.where()
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM recordings{where} {_ORDERS[order]} LIMIT ?",  # noqa: S608  # our own names; values are bound
        [*values, -1 if limit is None else limit],
    )
    for key, category, tool, api, arguments, content, status, *rest in found:
        yield Recording(
            key.hex(), category, tool, api, arguments, content, CallStatus(status), *rest
        )


def count_recordings(connection: sqlite3.Connection, wanted: Filter) -> int:
    """How many recordings are meant."""
    where, values = wanted.where()
    row = connection.execute(f"SELECT count(*) FROM recordings{where}", values).fetchone()  # noqa: S608  # our own names; values are bound
    return int(row[0])


def delete_recordings(connection: sqlite3.Connection, wanted: Filter) -> int:
    """Remove recordings; how many."""
    where, values = wanted.where()
    return connection.execute(f"DELETE FROM recordings{where}", values).rowcount  # noqa: S608  # our own names; values are bound


def note_miss(connection: sqlite3.Connection, miss: Miss) -> None:
    """Count a call that is not recorded."""
    connection.execute(_NOTE, (bytes.fromhex(miss.key), *miss[1:]))


def forget_oldest_misses(connection: sqlite3.Connection, *, keep: int) -> None:
    """Shorten the list of misses to those asked for most recently."""
    connection.execute(_FORGET_OLDEST, (keep,))


def select_misses(connection: sqlite3.Connection, *, limit: int) -> list[Miss]:
    """Misses, the one asked for most recently first."""
    found = connection.execute(
        "SELECT key, category, tool, api, arguments, times, last_at FROM misses "
        "ORDER BY last_at DESC, key LIMIT ?",
        (limit,),
    )
    return [Miss(key.hex(), *rest) for key, *rest in found]


def delete_misses(connection: sqlite3.Connection) -> int:
    """Empty the list of misses; how many there were."""
    return connection.execute("DELETE FROM misses").rowcount


def summary(connection: sqlite3.Connection) -> Summary:
    """Figures about everything in the file."""
    entries, oldest, newest = connection.execute(
        "SELECT count(*), min(recorded_at), max(recorded_at) FROM recordings"
    ).fetchone()
    apis = connection.execute(
        "SELECT count(*) FROM (SELECT DISTINCT category, tool, api FROM recordings)"
    ).fetchone()[0]
    misses = connection.execute("SELECT count(*) FROM misses").fetchone()[0]
    sources = dict(connection.execute("SELECT source, count(*) FROM recordings GROUP BY source"))
    statuses = dict(connection.execute("SELECT status, count(*) FROM recordings GROUP BY status"))
    return Summary(entries, apis, misses, sources, statuses, oldest, newest)
