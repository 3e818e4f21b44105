"""Export and import of recordings as JSON lines, compressed with gzip.

The first line names the format, the last one the number and the hash of those between, which stand
in the order of their keys: `zcat FILE | sed '1d;$d' | sha256sum` prints the hash of the snapshot
that holds the same recordings.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from services.contracts.errors import InvalidArgument, NotFound
from services.toolenv.cassettes.key import canonical
from services.toolenv.cassettes.recording import MAX_LINE_BYTES, Recording, parse_line
from services.toolenv.cassettes.rows import EVERYTHING, Conflict, Filter, Seal
from services.toolenv.cassettes.snapshot import (
    Sealing,
    Snapshot,
    Source,
    build_file,
    staging,
    sync,
)
from services.toolenv.cassettes.store import Added, Store

_HEAD: Final = {"format": "toolwright-cassettes", "version": 1}
_LEVEL = 6  # a third of the size in a third of the time that level 9 takes


class Imported(NamedTuple):
    """What an import did."""

    seal: Seal
    """Of the file."""
    added: Added


def export_lines(source: Source, path: Path, *, wanted: Filter = EVERYTHING) -> Seal:
    """Write recordings as JSON lines; atomic, and the same bytes for the same recordings.

    Raises:
        StoreFull: There is no room.
        StoreReadOnly: The folder cannot be written.
    """
    sealing = Sealing()
    with staging(path.parent) as work:
        new = work / "export"
        with (
            new.open("wb") as raw,
            # Neither name nor time: equal exports are equal bytes.
            gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed,
        ):
            packed.write(canonical(_HEAD) + b"\n")
            for recording in source.recordings(wanted, order="key"):
                packed.write(sealing.line(recording))
            packed.write(canonical(sealing.seal()._asdict()) + b"\n")
        sync(new)
        new.replace(path)
        sync(path.parent)
    return sealing.seal()


def import_lines(
    store: Store,
    path: Path,
    *,
    expected_sha256: str | None = None,
    on_conflict: Conflict = "keep",
) -> Imported:
    """Read an export into a store: all of it, or nothing when this raises.

    It is checked in a file of its own first; the store is locked only for the copy at the end.

    Args:
        store: It may be in use.
        path: Lines of an export, compressed or not.
        expected_sha256: The hash the file must have, or the beginning of it.
        on_conflict: What happens to calls that are recorded already.

    Raises:
        NotFound: There is no such file.
        InvalidArgument: A line is not what it should be; the message names file, line and field.
            Or the hash is wrong.
        ServiceError: As `Store.absorb`.
    """
    with staging(store.path.parent) as work:
        new = work / "import.db"
        seal = _stage(path, new)
        if not seal.sha256.startswith(expected_sha256 or ""):
            raise InvalidArgument(
                f"{path.name} has the hash {seal.sha256}, not the expected {expected_sha256}; "
                "fetch the right file"
            )
        return Imported(seal, store.absorb(new, on_conflict=on_conflict))


def import_snapshot(
    store: Store,
    path: Path,
    *,
    expected_sha256: str | None = None,
    on_conflict: Conflict = "keep",
) -> Imported:
    """As `import_lines`, from a frozen file.

    Raises:
        ServiceError: As `Snapshot` and `Store.absorb`.
    """
    snapshot = Snapshot(path, expected_sha256=expected_sha256)
    snapshot.close()
    return Imported(snapshot.seal, store.absorb(path, on_conflict=on_conflict))


def _stage(path: Path, new: Path) -> Seal:
    sealing = Sealing()
    lines = _Lines(path)
    build_file(new, sealing.over(lines.recordings()))
    if lines.seal != sealing.seal():
        raise InvalidArgument(
            f"{path.name}: its last line promises {lines.seal.entries} entries with hash "
            f"{lines.seal.sha256}, but it holds {sealing.seal().entries} with "
            f"{sealing.seal().sha256}: the file was changed or damaged; fetch it again"
        )
    return lines.seal


class _Lines:
    """The lines of one export; `seal` is its promise, known after the last recording."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self.seal = Seal("", 0)

    def recordings(self) -> Iterator[Recording]:
        try:
            with _opened(self._path) as stream:
                yield from self._parse(stream)
        except FileNotFoundError as exc:
            raise NotFound(f"there is no file {str(self._path)!r} to import") from exc
        except (OSError, EOFError, zlib.error) as exc:
            raise InvalidArgument(
                f"{self._here()}: it cannot be unpacked: {exc}; fetch the file again"
            ) from exc

    def _parse(self, stream: BinaryIO) -> Iterator[Recording]:
        if self._head(self._next(stream)) != _HEAD:
            raise InvalidArgument(
                f"{self._here()}: not an export of cassettes: the first line must be "
                f"{json.dumps(_HEAD)}"
            )
        key = ""
        line = self._next(stream)
        while (follower := self._next(stream)) != b"":
            recording = parse_line(line, where=f"{self._path.name}, line {self._number - 1}")
            if recording.key <= key:
                raise InvalidArgument(
                    f"{self._path.name}, line {self._number - 1}: field 'key' does not come after "
                    "that of the line before: a line was repeated or moved; export it again"
                )
            key = recording.key
            yield recording
            line = follower
        self.seal = self._promise(line)

    def _next(self, stream: BinaryIO) -> bytes:
        line = stream.readline(MAX_LINE_BYTES + 1)
        self._number += 1
        if len(line) > MAX_LINE_BYTES:
            raise InvalidArgument(
                f"{self._here()}: longer than the limit of {MAX_LINE_BYTES} bytes; leave it out"
            )
        return line

    def _head(self, line: bytes) -> object:
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            return None

    def _promise(self, line: bytes) -> Seal:
        found = self._head(line)
        sha256, entries = (
            (found.get("sha256"), found.get("entries")) if isinstance(found, dict) else (None, None)
        )
        if not isinstance(sha256, str) or not isinstance(entries, int):
            raise InvalidArgument(
                f"{self._path.name}, line {self._number - 1}: the last line must hold the fields "
                "'entries' and 'sha256': the file is cut off; fetch it again"
            )
        return Seal(sha256, entries)

    def _here(self) -> str:
        return f"{self._path.name}, line {max(1, self._number)}"


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"
    # A GzipFile is read by lines and closed as a binary file is, though typed on its own.
    return gzip.GzipFile(path, "rb") if is_packed else path.open("rb")  # type: ignore[return-value]
