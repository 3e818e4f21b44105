"""A cgroup around all zygotes and workers, where the host may make one.

Never required: in a container the hierarchy is usually read-only, and the container's own limits
and the workers' rlimits must do. Zygotes are moved in once; what they fork is born inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import structlog

log = structlog.get_logger(__name__)

CgroupMode = Literal["none", "v1", "v2"]
_PREFIX = "toolwright-sandbox-"
_CLOSE_ATTEMPTS, _CLOSE_PAUSE_S = 25, 0.02
_numbers = itertools.count(1)  # several sandboxes of one process
_V1_CONTROLLERS = ("memory", "pids", "cpu")
_CPU_SHARES, _CPU_WEIGHT = 512, 50  # half of what an ordinary group gets when all are busy


class PoolCgroup:
    """Folders of one group, one per v1 hierarchy or a single one of v2. Made by `open_cgroup`."""

    def __init__(self, mode: CgroupMode, folders: tuple[Path, ...]) -> None:
        self.mode: CgroupMode = mode
        self._folders = folders

    def attach(self, pid: int) -> None:
        """Move a zygote in; its later children follow by themselves."""
        for folder in self._folders:
            try:
                (folder / "cgroup.procs").write_text(str(pid), "ascii")
            except OSError as error:
                log.warning("sandbox_cgroup_attach_failed", folder=str(folder), error=str(error))

    def close(self) -> None:
        """Remove the empty groups; one that still holds a process stays for the next start."""
        left = []
        for folder in self._folders:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                left.append(folder)
        self._folders = tuple(left)

    async def aclose(self) -> None:
        """Remove the groups as soon as the kernel is done with the killed processes in them."""
        for _ in range(_CLOSE_ATTEMPTS):
            self.close()
            if not self._folders:
                return
            await asyncio.sleep(_CLOSE_PAUSE_S)


def open_cgroup(
    *,
    memory_bytes: int,
    pids: int,
    root: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> PoolCgroup:
    """A group for this process's sandbox; mode "none" where it may not make one.

    Args:
        memory_bytes: Memory of all zygotes and workers together.
        pids: Processes and threads of all together.
        root: Where the hierarchies are mounted.
        membership: The kernel's list of this process's groups.
    """
    try:
        own = dict(line.split(":", 2)[1:] for line in membership.read_text("ascii").splitlines())
    except (OSError, ValueError):
        own = {}
    v2 = _open_v2(root, own.get("", "/"), memory_bytes, pids)
    if v2 is not None:
        return PoolCgroup("v2", (v2,))
    folders = _open_v1(root, own, memory_bytes, pids)
    return PoolCgroup("v1" if folders else "none", folders)


def _open_v2(root: Path, path: str, memory_bytes: int, pids: int) -> Path | None:
    parent = root / path.lstrip("/")
    try:
        controllers = set((parent / "cgroup.subtree_control").read_text("ascii").split())
    except OSError:
        return None
    if not {"memory", "pids"} <= controllers:
        return None
    values = {"memory.max": memory_bytes, "pids.max": pids}
    values |= {"cpu.weight": _CPU_WEIGHT} if "cpu" in controllers else {}
    return _make(parent, values)


def _open_v1(root: Path, own: Mapping[str, str], memory_bytes: int, pids: int) -> tuple[Path, ...]:
    values = {
        "memory": {"memory.limit_in_bytes": memory_bytes},
        "pids": {"pids.max": pids},
        "cpu": {"cpu.shares": _CPU_SHARES},
    }
    made = []
    for controller in _V1_CONTROLLERS:
        path = next((path for names, path in own.items() if controller in names.split(",")), None)
        if path is None:
            continue
        folder = _make(root / controller / path.lstrip("/"), values[controller])
        if folder is None and path != "/":  # the path of another namespace: try the visible root
            folder = _make(root / controller, values[controller])
        if folder is not None:
            made.append(folder)
    return tuple(made)


def _make(parent: Path, values: Mapping[str, int]) -> Path | None:
    _remove_stale(parent)
    folder = parent / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    try:
        for name, value in values.items():
            (folder / name).write_text(str(value), "ascii")
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    return folder


def _remove_stale(parent: Path) -> None:
    """Remove what hosts left that were killed; a group with processes cannot be removed."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            host_pid = folder.name.removeprefix(_PREFIX).split("-")[0]
            if not Path("/proc", host_pid).exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()
