"""What the kernel knows about the processes of a sandbox."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 0.005
POOL_SIZE = 2  # workers that the shared sandboxes keep ready


def children(pid: int) -> list[int]:
    """Process ids below `pid`, zombies included."""
    return [
        int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    ]


async def wait_until(is_true: Callable[[], bool], timeout_s: float) -> None:
    """Poll a fact of the kernel that no event announces; raises TimeoutError if it stays false."""
    async with asyncio.timeout(timeout_s):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def wait_for_children(pid: int, count: int, timeout_s: float = 1.0) -> None:
    """Return once `pid` has exactly `count` children."""
    await wait_until(lambda: len(children(pid)) == count, timeout_s)


async def kill_and_wait(pid: int, timeout_s: float = 5.0) -> None:
    """SIGKILL one process and return once it is gone."""
    assert pid > 1
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    await wait_until(lambda: not exists(pid), timeout_s)


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    return Path(f"/proc/{pid}").exists()


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def processes_of_uid(uid: int) -> set[int]:
    """Process ids whose effective user is `uid`."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == uid or f"\t{uid}\t" in _uid_line(folder):
                found.add(int(folder.name))
    return found


def command_name(pid: int) -> str:
    """Name of a process's program, empty when it has ended; the jail's own are called bwrap."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
    except OSError:
        return ""


def _uid_line(folder: Path) -> str:
    """The line of a process that names its users; the folder's owner is root when it hides."""
    lines = (folder / "status").read_text("utf-8").splitlines()
    return next(line for line in lines if line.startswith("Uid:"))


def oom_score_adjustment(pid: int | str) -> int:
    """How eager the kernel is to end a process when memory is short; higher goes first."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text("ascii"))


@dataclass
class Stall:
    """The longest time for which the event loop ran nothing else."""

    longest_s: float = 0.0


@contextlib.asynccontextmanager
async def longest_stall_s() -> AsyncIterator[Stall]:
    """Measure the event loop of this test while the context is open."""
    stall = Stall()
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        now = time.monotonic()
        stall.longest_s = max(stall.longest_s, now - last - _TICK_S)
        last = now

    async def watch() -> None:
        while True:
            tick()
            await asyncio.sleep(_TICK_S)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(_TICK_S)
    try:
        yield stall
    finally:
        tick()  # the loop may have been held up until this very moment
        watcher.cancel()
