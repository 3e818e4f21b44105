"""Files that are replaced as a whole: a reader or a crash sees the old content or the new one."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.contracts.errors import Unavailable

_LOCK_POLL_S = 0.02


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file's content, durably; the folder is made when missing.

    Args:
        path: The file.
        content: All of it.
        mode: Access rights of the file.

    Raises:
        Unavailable: The folder cannot be written, or the disk is full; the old content stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as exc:
        raise Unavailable(
            f"{str(path)!r} cannot be written: {exc.strerror}; "
            "free space or choose a writable TOOLWRIGHT_HOME"
        ) from exc


@contextmanager
def file_lock(path: Path, *, timeout_s: float = 10.0) -> Iterator[None]:
    """Hold an exclusive lock between processes for the block; the kernel frees it if we die.

    Args:
        path: A file that is made when missing and never removed.
        timeout_s: Longest wait, seconds. Blocks the thread: keep it off the event loop.

    Raises:
        Unavailable: Somebody else held it all the time, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise Unavailable(f"lock {str(path)!r} cannot be opened: {exc.strerror}") from exc
    try:
        _acquire(descriptor, path, timeout_s)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise Unavailable(
                    f"another process held {str(path)!r} for {timeout_s:.0f} s; try again"
                ) from None
            time.sleep(_LOCK_POLL_S)
        else:
            return
