"""What the kernel knows about the processes of a sandbox."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

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
