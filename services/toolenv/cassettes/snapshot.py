"""Snapshots: frozen cassette files, named after the hash of what they hold.

The hash covers the canonical lines in the order of their keys, so two machines that hold the same
recordings freeze the same hash, whatever order they were made in.
"""

import hashlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.toolenv.cassettes import rows
from services.toolenv.cassettes.database import connect_frozen, create_private
from services.toolenv.cassettes.errors import StoreDamaged, StoreFull, StoreReadOnly, explained
from services.toolenv.cassettes.key import key_of
from services.toolenv.cassettes.readers import Readers
from services.toolenv.cassettes.recording import Answer, Recording, line_of
from services.toolenv.cassettes.rows import EVERYTHING, Filter, Order, Seal

MIN_PREFIX_CHARS: Final = 8
"""Shortest beginning of a hash that is looked up."""
_HASH = re.compile(r"[0-9a-f]{8,64}")


class Source(Protocol):
    """Where recordings come from: a `Store` or a `Snapshot`."""

    def recordings(
        self, wanted: Filter = ..., *, order: Order = ..., limit: int | None = ...
    ) -> Iterator[Recording]:
        """Recordings as they were at the first."""
        ...


class Frozen(NamedTuple):
    """A snapshot that was written."""

    path: Path
    seal: Seal


class Sealing:
    """Hashes recordings on their way, which must come in the order of their keys."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._entries = 0

    def line(self, recording: Recording) -> bytes:
        """The recording's line with its line feed, now part of the hash."""
        line = line_of(recording) + b"\n"
        self._hash.update(line)
        self._entries += 1
        return line

    def over(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """The recordings, unchanged."""
        for recording in recordings:
            self.line(recording)
            yield recording

    def seal(self) -> Seal:
        """Hash and number of what has passed."""
        return Seal(self._hash.hexdigest(), self._entries)


class Snapshot:
    """A frozen file, mounted for reading. Safe to use from any thread; its opener closes it."""

    def __init__(
        self, path: Path, *, expected_sha256: str | None = None, verify: bool = True
    ) -> None:
        """Open a snapshot; blocking file access.

        Args:
            path: The file.
            expected_sha256: The hash it must have, or the beginning of it.
            verify: Whether the content is hashed now (about 15 s for a million entries) or
                believed.

        Raises:
            FailedPrecondition: There is no such file, it is no snapshot, or not the expected one.
            StoreDamaged: It is broken, or its content is not what its hash says.
        """
        self.path = path
        self._readers = Readers(path, lambda: connect_frozen(path))
        try:
            self.seal = self._read_seal()
            if not self.seal.sha256.startswith(expected_sha256 or ""):
                raise FailedPrecondition(
                    f"snapshot {str(path)!r} has the hash {self.seal.sha256}, not the expected "
                    f"{expected_sha256}"
                )
            if verify:
                self.verify()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; nothing may be reading."""
        self._readers.close()

    def find(self, key: str) -> Answer | None:
        """See `Store.find`."""
        return self._readers.find(key)

    def recordings(
        self, wanted: Filter = EVERYTHING, *, order: Order = "key", limit: int | None = None
    ) -> Iterator[Recording]:
        """See `Store.recordings`."""
        with closing(connect_frozen(self.path)) as connection, self._explaining():
            yield from rows.select_recordings(connection, wanted, order=order, limit=limit)

    def verify(self) -> Seal:
        """Hash the content, and check that every recording lies under the key of its call.

        Raises:
            StoreDamaged: Something is not what it should be; the message says what.
        """
        sealing = Sealing()
        with self._explaining():
            for found in sealing.over(self.recordings()):
                if found.key != key_of(*found[1:4], found.arguments.encode()):
                    raise self._changed(f"entry {found.key} is not the address of its own call")
        if sealing.seal() != self.seal:
            raise self._changed(
                f"it holds {sealing.seal().entries} entries with hash {sealing.seal().sha256}, but "
                f"was frozen with {self.seal.entries} and {self.seal.sha256}"
            )
        return self.seal

    def _read_seal(self) -> Seal:
        with self._explaining():
            seal = rows.read_seal(self._readers.connection())
        if seal is None:
            raise FailedPrecondition(
                f"{str(self.path)!r} is a cassette file that is still written, not a snapshot; "
                "make one with `toolwright cassettes freeze`"
            )
        return seal

    def _changed(self, what: str) -> StoreDamaged:
        return StoreDamaged(
            f"snapshot {str(self.path)!r} was changed or damaged: {what}; copy or freeze it again"
        )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise explained(exc, self.path) from exc
        except ValueError as exc:  # a text that is no UTF-8, a status that does not exist
            raise self._changed(str(exc)) from exc


def freeze(source: Source, target: Path, *, wanted: Filter = EVERYTHING) -> Frozen:
    """Write what a store holds now into a file that never changes.

    Atomic: the file has its name only when it is complete and on the disk.

    Args:
        source: What to freeze; it may be in use.
        target: The file, or a folder in which it is named `<hash>.db`.
        wanted: Which recordings.

    Raises:
        FailedPrecondition: There is nothing to freeze, or another file has that name.
        StoreFull: There is no room.
        StoreReadOnly: The folder cannot be written.
    """
    folder = target if target.suffix != ".db" or target.is_dir() else target.parent
    sealing = Sealing()
    with staging(folder) as work:
        new = work / "snapshot.db"
        build_file(new, sealing.over(source.recordings(wanted, order="key")), seal=sealing.seal)
        seal = sealing.seal()
        if not seal.entries:
            raise FailedPrecondition("there is no recording to freeze; record or import some first")
        path = folder / f"{seal.sha256}.db" if folder == target else target
        if not _is_same_snapshot(path, seal):
            _publish(new, path)
    return Frozen(path, seal)


def build_file(
    path: Path, recordings: Iterable[Recording], *, seal: Callable[[], Seal] | None = None
) -> int:
    """Write a new cassette file; of recordings with one key it keeps the first.

    Args:
        path: A name that nothing has yet.
        recordings: Read once.
        seal: Asked after the last of them; `None` leaves the file unsealed.

    Returns:
        How many it holds.
    """
    with closing(create_private(path)) as connection:
        try:
            n_entries = rows.insert_rows(connection, recordings, on_conflict="keep")
            if seal is not None:
                rows.write_seal(connection, seal())
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            raise explained(exc, path) from exc
    return n_entries


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """An empty folder inside another, for files that get their name when they are complete.

    Raises:
        StoreReadOnly: It cannot be made, or the file cannot get its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".cassettes-") as work:
            yield Path(work)
    except OSError as exc:
        raise cannot_write(folder, exc) from exc


def cannot_write(path: Path, exc: OSError) -> StoreReadOnly | StoreFull:
    """The typed error for a file that could not be written."""
    what = f"{str(path)!r} cannot be written: {exc.strerror or exc}"
    if isinstance(exc, PermissionError | FileNotFoundError | NotADirectoryError):
        return StoreReadOnly(f"{what}; choose a folder that can")
    return StoreFull(f"{what}; free some space or choose another disk")


def _is_same_snapshot(path: Path, seal: Seal) -> bool:
    if not path.exists():
        return False
    with closing(Snapshot(path, verify=False)) as there:
        if there.seal != seal:
            raise FailedPrecondition(
                f"{str(path)!r} is there already and holds something else (hash "
                f"{there.seal.sha256}); choose another name"
            )
    return True


def _publish(new: Path, path: Path) -> None:
    new.chmod(0o444)
    sync(new)
    new.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file or folder on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def default_folder(home: Path) -> Path:
    """Where snapshots are kept, below `TOOLWRIGHT_HOME`."""
    return home / "toolenv" / "snapshots"


def locate(reference: str, folder: Path) -> Path:
    """The snapshot that a user means.

    Args:
        reference: A path, or at least eight digits of the hash of one in `folder`.
        folder: Where snapshots are named after their hash.

    Raises:
        NotFound: There is none.
        InvalidArgument: There are several.
    """
    if not _HASH.fullmatch(reference):
        path = Path(reference)
        if not path.is_file():
            raise NotFound(
                f"there is no snapshot at {reference!r}; name a file, or {MIN_PREFIX_CHARS} or "
                f"more digits of the hash of one in {str(folder)!r}"
            )
        return path
    found = sorted(folder.glob(f"{reference}*.db"))
    if not found:
        raise NotFound(f"no snapshot in {str(folder)!r} has a hash that begins with {reference}")
    if len(found) > 1:
        raise InvalidArgument(
            f"{len(found)} snapshots in {str(folder)!r} begin with {reference}; name more digits"
        )
    return found[0]


def open_snapshot(reference: str, folder: Path, *, verify: bool = True) -> Snapshot:
    """Open what `locate` finds; a hash in the reference is the one it must have.

    Raises:
        ServiceError: As `locate` and `Snapshot`.
    """
    expected = reference if _HASH.fullmatch(reference) else None
    return Snapshot(locate(reference, folder), expected_sha256=expected, verify=verify)
