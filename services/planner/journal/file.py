"""One journal on disk: appended to by one process, line by line."""

import asyncio
import fcntl
import os
from pathlib import Path

import structlog

from services.contracts.errors import FailedPrecondition, Unavailable
from services.planner.journal.lines import sealed

log = structlog.get_logger()


class JournalFile:
    """An open journal. The kernel's lock on it says that its run is going on, and dies with us.

    A disk that refuses a line ends the keeping, not the run: `is_kept` turns false, the log says
    why, and what was written until then stays usable. Only a call that changes something needs its
    line, see `append_durably`.
    """

    def __init__(self, path: Path, descriptor: int, *, size: int) -> None:
        """Take over an open, locked file; see `create` and `reopen`."""
        self.path = path
        self.is_kept = True
        self._descriptor = descriptor
        self._size = size

    @classmethod
    def create(cls, path: Path, first_line: str) -> "JournalFile":
        """A new journal, readable by its owner only, as is its folder if that is new.

        Args:
            path: There is no file yet.
            first_line: See `append`.

        Raises:
            FailedPrecondition: There is one of that name.
            Unavailable: The folder or the line cannot be written; no file is left.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError as exc:
            raise FailedPrecondition(
                f"run {path.stem!r} is kept already; choose another run id, or resume it"
            ) from exc
        except OSError as exc:
            raise Unavailable(f"{str(path)!r} cannot be written: {exc.strerror}") from exc
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        file = cls(path, descriptor, size=0)
        refusal = file._refusal(first_line)
        if refusal is not None:
            path.unlink()
            file.close()
            raise Unavailable(f"{str(path)!r} cannot be written: {refusal}")
        return file

    @classmethod
    def reopen(cls, path: Path) -> "JournalFile":
        """A journal to go on with; `cut` says where.

        Raises:
            FailedPrecondition: Its run is going on, here or in another process.
            Unavailable: The file cannot be written.
        """
        try:
            descriptor = open_at_once(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as exc:
            raise Unavailable(f"{str(path)!r} cannot be written: {exc.strerror}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise FailedPrecondition(f"run {path.stem!r} is going on now") from exc
        return cls(path, descriptor, size=os.fstat(descriptor).st_size)

    def cut(self, size: int) -> None:
        """Drop what follows the first `size` bytes.

        Raises:
            Unavailable: The disk refuses.
        """
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as exc:
            raise Unavailable(f"{str(self.path)!r} cannot be written: {exc.strerror}") from exc
        self._size = size

    def append(self, body: str) -> None:
        """Add a line: when this returns, a kill of the process does not lose it."""
        if self.is_kept:
            refusal = self._refusal(body)
            if refusal is not None:
                self._give_up(refusal)

    async def append_durably(self, body: str) -> None:
        """Add a line that survives a loss of power too.

        Raises:
            Unavailable: The disk refuses; what the line announces must not be done.
        """
        self.append(body)
        if self.is_kept:
            try:
                await asyncio.to_thread(os.fsync, self._descriptor)
            except OSError as exc:
                self._give_up(exc.strerror or type(exc).__name__)
        if not self.is_kept:
            raise Unavailable(
                f"{str(self.path)!r} cannot be written, so a call that changes something is not "
                "made: after an interruption nobody would know of it; free space on the disk"
            )

    def close(self) -> None:
        """Let go of the file and its lock."""
        os.close(self._descriptor)

    def _refusal(self, body: str) -> str | None:
        """Write a line; why the disk did not take it."""
        data = sealed(body)
        try:
            written = os.write(self._descriptor, data)
        except OSError as exc:
            return exc.strerror or type(exc).__name__
        if written != len(data):
            return f"{written} of {len(data)} bytes fitted"
        self._size += written
        return None

    def _give_up(self, reason: str) -> None:
        self.is_kept = False
        log.warning("run_not_kept", run_id=self.path.stem, reason=reason)
        try:
            os.ftruncate(self._descriptor, self._size)  # a torn line is recognised in any case
        except OSError as exc:
            log.warning("journal_not_cut", run_id=self.path.stem, reason=exc.strerror)


def open_at_once(path: str | Path, flags: int) -> int:
    """Open a file; what is none, such as a pipe, keeps nobody waiting for its other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def is_going_on(path: Path) -> bool:
    """Whether a living process holds the journal; of one that is gone, nobody does."""
    try:
        descriptor = open_at_once(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # another run has just made room for itself
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
