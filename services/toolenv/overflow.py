"""Answers that are too long to pass on, kept whole under their own hash.

Blobs are files named after the SHA-256 of what they hold, so storing one twice keeps one, and a
reference says by itself whether a blob is intact. A blob appears under its name complete or not at
all. The folder may be shared by several processes; its size is bounded, oldest blobs go first.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from services.contracts.errors import InvalidArgument, NotFound, PayloadTooLarge, Unavailable
from services.contracts.toolenv import OverflowPart

MAX_BLOB_BYTES: Final = 64 << 20
MAX_TOTAL_BYTES: Final = 1 << 30
MAX_PART_BYTES: Final = 1 << 20
"""Longest part that is read back at once."""
_PREFIX: Final = "sha256:"
_REF: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TEMPORARY: Final = ".part-"
_ABANDONED_S: Final = 3600.0  # no answer takes that long, so its writer died
_LONGEST_CHARACTER: Final = 4  # bytes of UTF-8
_MIN_PART_BYTES: Final = 8  # holds a whole character even after the rest of a cut one


class Captured(NamedTuple):
    """What is left of an answer that arrived in pieces."""

    head: bytes
    """The answer, or its beginning when it is longer than the capture's limit."""
    total_bytes: int
    """Bytes that arrived."""
    overflow_ref: str | None
    """Where the whole answer is; `None` when `head` is all of it or it could not be kept."""
    problem: str
    """Why a longer answer was not kept; empty when it was."""

    @property
    def is_whole(self) -> bool:
        """Whether `head` is all of the answer."""
        return self.total_bytes == len(self.head)


class OverflowStore:
    """Bounded, content-addressed blobs in one folder. Blocking; safe to share between threads."""

    def __init__(
        self,
        folder: Path,
        *,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        max_blob_bytes: int = MAX_BLOB_BYTES,
    ) -> None:
        """Use a folder, which is made when the first blob comes.

        Args:
            folder: Holds nothing else.
            max_total_bytes: Of all blobs together; the oldest are removed to stay below it.
            max_blob_bytes: Longest blob, at most `max_total_bytes`.
        """
        if not 0 < max_blob_bytes <= max_total_bytes:
            raise ValueError(
                f"max_blob_bytes={max_blob_bytes} must be in 1..max_total_bytes={max_total_bytes}"
            )
        self._folder = folder
        self._max_total_bytes = max_total_bytes
        self.max_blob_bytes = max_blob_bytes

    def put(self, content: bytes) -> str:
        """Keep one answer.

        Returns:
            Its reference, `sha256:<hex>`.

        Raises:
            PayloadTooLarge: It exceeds the limit of one blob.
            Unavailable: The folder cannot be written, or the disk is full.
        """
        with self.writer() as writer:
            writer.write(content)
            return writer.commit()

    def writer(self) -> "OverflowWriter":
        """Keep an answer that comes in pieces.

        Raises:
            Unavailable: The folder cannot be written.
        """
        return OverflowWriter(self, self._folder)

    def read(self, ref: str, *, offset: int = 0, limit: int = 65_536) -> OverflowPart:
        """A piece of a kept answer, cut between characters.

        Args:
            ref: As in `Observation.overflow_ref`.
            offset: First byte, >= 0.
            limit: Longest piece, bytes, 8 to `MAX_PART_BYTES`.

        Raises:
            InvalidArgument: The reference is malformed, or a number is out of range.
            NotFound: No such blob; it may have been evicted.
        """
        if not _MIN_PART_BYTES <= limit <= MAX_PART_BYTES or offset < 0:
            raise InvalidArgument(
                f"offset={offset} must be >= 0 and limit={limit} in "
                f"{_MIN_PART_BYTES}..{MAX_PART_BYTES} bytes"
            )
        path = self._path(ref)
        try:
            with path.open("rb") as stream:
                total = os.fstat(stream.fileno()).st_size
                stream.seek(min(offset, total))  # a file has no place beyond 2**63
                content = stream.read(limit)
        except FileNotFoundError as exc:
            raise NotFound(f"{ref} is not kept, or no longer; make the call again") from exc
        except OSError as exc:
            raise Unavailable(f"{ref} cannot be read: {exc.strerror}") from exc
        skipped = _continuation_bytes(content) if offset else 0
        end = offset + len(content)
        whole = content[skipped:] if end >= total else whole_characters(content[skipped:])
        following = offset + skipped + len(whole)
        return OverflowPart(
            text=whole.decode("utf-8", "replace"),
            offset=offset + skipped,
            next_offset=following if following < total and whole else None,
            total_bytes=total,
        )

    def _path(self, ref: str) -> Path:
        if not _REF.fullmatch(ref):
            raise InvalidArgument(
                f"{ref[:80]!r} is no reference of the form sha256:<64 hexadecimal digits>"
            )
        return self._folder / ref.removeprefix(_PREFIX)

    def make_room(self, *, keeping: str) -> None:
        """Remove the oldest blobs, and what dead writers left, until the rest fits."""
        blobs = []
        for entry in os.scandir(self._folder):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process evicted it
                continue
            if entry.name.startswith(_TEMPORARY):
                if time.time() - status.st_mtime > _ABANDONED_S:
                    _remove(entry.path)
                continue
            blobs.append((status.st_mtime, status.st_size, entry.name))
        total = sum(size for _, size, _ in blobs)
        for _, size, name in sorted(blobs):
            if total <= self._max_total_bytes:
                return
            if name != keeping:
                _remove(os.path.join(self._folder, name))
                total -= size


class OverflowWriter:
    """One blob in the making. Leaving its context without `commit` keeps nothing."""

    def __init__(self, store: OverflowStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._hash = hashlib.sha256()
        self._bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, self._temporary = tempfile.mkstemp(dir=folder, prefix=_TEMPORARY)
        except OSError as exc:
            raise _unwritable(folder, exc) from exc
        self._stream = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Discard what was not committed."""
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Append; goes to the page cache, so it does not wait for the disk as a rule.

        Raises:
            PayloadTooLarge: The blob would exceed its limit.
            Unavailable: The disk is full.
        """
        if self._bytes + len(chunk) > self._store.max_blob_bytes:
            raise PayloadTooLarge(
                f"the answer exceeds the {self._store.max_blob_bytes} bytes that are kept of one"
            )
        try:
            self._stream.write(chunk)
        except OSError as exc:
            raise _unwritable(self._folder, exc) from exc
        self._hash.update(chunk)
        self._bytes += len(chunk)

    def commit(self) -> str:
        """Keep the blob, durably, and return its reference. Waits for the disk.

        Raises:
            Unavailable: The disk is full.
        """
        name = self._hash.hexdigest()
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            os.replace(self._temporary, self._folder / name)
            self._store.make_room(keeping=name)
        except OSError as exc:
            raise _unwritable(self._folder, exc) from exc
        return _PREFIX + name

    def discard(self) -> None:
        """Keep nothing; harmless after `commit`."""
        with contextlib.suppress(OSError):  # a full disk refuses the rest, which is not wanted
            self._stream.close()
        _remove(self._temporary)


class Capture:
    """Collects an answer of unknown length in bounded memory: its head here, all of it on disk."""

    def __init__(self, store: OverflowStore | None, *, max_bytes: int) -> None:
        """Start collecting.

        Args:
            store: Keeps what exceeds the limit; `None` keeps nothing of it.
            max_bytes: Longest answer, and longest head, that is held in memory.
        """
        self._store = store
        self._max_bytes = max_bytes
        self._head = bytearray()
        self._total = 0
        self._writer: OverflowWriter | None = None
        self._problem = "" if store else "answers beyond the limit are not kept here"

    def feed(self, chunk: bytes) -> bool:
        """Take the next piece.

        Returns:
            Whether more is wanted; `False` once nothing that follows could be kept.
        """
        self._total += len(chunk)
        room = self._max_bytes - len(self._head)
        if self._total > self._max_bytes and not self._problem:
            self._spill(chunk)
        self._head += chunk[:room]
        return not self._problem or self._total <= self._max_bytes

    def _spill(self, chunk: bytes) -> None:
        try:
            if self._writer is None and self._store is not None:
                self._writer = self._store.writer()
                self._writer.write(bytes(self._head))
            if self._writer is not None:
                self._writer.write(chunk)
        except (PayloadTooLarge, Unavailable) as exc:
            self._problem = exc.detail
            self.discard()

    def finish(self) -> Captured:
        """What was collected. Waits for the disk when there is overflow."""
        ref = None
        is_long = self._total > self._max_bytes
        if self._writer is not None:
            try:
                ref = self._writer.commit()
            except Unavailable as exc:
                self._problem = exc.detail
            self.discard()
        return Captured(bytes(self._head), self._total, ref, self._problem if is_long else "")

    def discard(self) -> None:
        """Keep nothing on disk."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None


def whole_characters(content: bytes) -> bytes:
    """UTF-8 bytes without the character that their end cuts in two."""
    for back in range(1, min(_LONGEST_CHARACTER, len(content)) + 1):
        byte = content[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character
            return content if back >= _length_of_character(byte) else content[:-back]
    return content


def _length_of_character(first: int) -> int:
    if first >= 0xF0:
        return 4
    if first >= 0xE0:
        return 3
    return 2 if first >= 0xC0 else 1


def _continuation_bytes(content: bytes) -> int:
    """How many bytes at the start belong to a character that began earlier."""
    count = 0
    while count < min(_LONGEST_CHARACTER - 1, len(content)) and content[count] & 0xC0 == 0x80:
        count += 1
    return count


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _unwritable(folder: Path, exc: OSError) -> Unavailable:
    return Unavailable(
        f"the overflow folder {str(folder)!r} cannot be written: {exc.strerror}; "
        "free space or choose another TOOLWRIGHT_HOME"
    )
