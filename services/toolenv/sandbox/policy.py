"""What one sandboxed call may use: limits, readable folders and Landlock access rights.

Pure and standard library only: the file is copied into the sandbox, where the zygote reads it too.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict, dataclass
from typing import Literal

_MIB = 1 << 20

Profile = Literal["lean", "web"]  # what a zygote preloads; importing works in both

_WEB_MODULES = ("requests", "httpx", "httpcore", "urllib", "http", "anyio", "ssl", "asyncio")
_WEB_IMPORT = re.compile(
    r"(?:^|[;\n])[ \t]*(?:import|from)[ \t][^\n]*?"
    r"\b(?:requests|httpx|httpcore|urllib3|urllib\.request|urllib import request|http\.client"
    r"|http import client|anyio|ssl|asyncio)\b"
)

READABLE_FOLDERS = (
    "/usr",
    "/lib",
    "/site",
    "/toolwright_sandbox",
)  # absolute, inside the sandbox's root

SCRATCH_FOLDER, SCRATCH_MOUNT = "/w", "/w/tmp"  # where a private tmpfs goes, when there is one
_MAX_FILE_BYTES = 8 * _MIB

LANDLOCK_READ = (1 << 2) | (
    1 << 3
)  # LANDLOCK_ACCESS_FS_READ_FILE, READ_DIR; no execute right anywhere


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Bounds of one call and of the pool; the defaults are those of the measured design.

    Attributes:
        memory_bytes: Address space of one worker (RLIMIT_AS).
        cpu_s: Processor seconds of one call; the kernel kills at this value, or 1 s later if
            SIGXCPU is ignored.
        wall_s: Upper bound of any `deadline_s`.
        output_bytes: Printed bytes kept; printing more ends the call.
        result_bytes: Size of the JSON result.
        frame_bytes: Size of any message; bounds `source` plus `arguments` too.
        open_files: RLIMIT_NOFILE of a worker.
        threads: RLIMIT_NPROC; shared by all workers of one sandbox, because they share a uid.
        niceness: Added to the scheduling priority of workers, 0..19. Not raised by default: next to
            a busy job a worker at 5 got less than 1 s of processor time in 25 s.
        scratch_bytes: Size of a private, empty tmpfs at `/w/tmp` with at most 1024 files, in tier
            `ns` only. 0, the default, means no writable folder at all.
        max_concurrent_calls: Calls executed at the same time.
        max_waiting_calls: Calls that may queue for a worker; beyond it a call is refused at once.
        code_cache_entries: Compiled sources remembered.
        pool_memory_bytes: Memory of all zygotes and workers together, where the host may make a
            cgroup.
        pool_processes: Processes and threads of all together, likewise.
    """

    memory_bytes: int = 512 * _MIB
    cpu_s: int = 10
    wall_s: float = 30.0
    output_bytes: int = 64 << 10
    result_bytes: int = 1 * _MIB
    frame_bytes: int = 2 * _MIB
    open_files: int = 64
    threads: int = 64
    niceness: int = 0
    scratch_bytes: int = 0
    max_concurrent_calls: int = 8
    max_waiting_calls: int = 64
    code_cache_entries: int = 512
    pool_memory_bytes: int = 2048 * _MIB
    pool_processes: int = 1024

    def __post_init__(self) -> None:
        """Refuse limits under which no call could work.

        Raises:
            ValueError: Naming the field, its value and the smallest value allowed.
        """
        smallest = {
            "memory_bytes": 64 * _MIB,
            "cpu_s": 1,
            "wall_s": 0.01,
            "output_bytes": 0,
            "result_bytes": 2,
            "frame_bytes": 16 << 10,
            "open_files": 8,
            "threads": 1,
            "niceness": 0,
            "scratch_bytes": 0,
            "max_concurrent_calls": 1,
            "max_waiting_calls": 0,
            "code_cache_entries": 0,
            "pool_memory_bytes": 256 * _MIB,
            "pool_processes": 64,
        }
        for name, minimum in smallest.items():
            value = getattr(self, name)
            if value < minimum:
                raise ValueError(f"{name}={value!r} is below the minimum of {minimum!r}")
        # A frame must hold the result and the printed text, of which JSON escaping may double or
        # sextuple parts.
        needed = self.result_bytes + 6 * self.output_bytes + 4096
        if self.frame_bytes < needed:
            raise ValueError(
                f"frame_bytes={self.frame_bytes!r} cannot hold result_bytes={self.result_bytes!r} "
                f"and escaped output_bytes={self.output_bytes!r}; use at least {needed}"
            )

    @property
    def file_bytes(self) -> int:
        """RLIMIT_FSIZE: 0 where nothing is writable to begin with."""
        return min(self.scratch_bytes, _MAX_FILE_BYTES)

    def to_json(self) -> str:
        """The form in which the zygote receives the limits."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SandboxLimits:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


def profile_of(source: str) -> Profile:
    """Which zygote serves a source soonest; a guess from its text that only costs time if wrong."""
    if not any(name in source for name in _WEB_MODULES):
        return "lean"  # found out 100 times faster than by the pattern
    return "web" if _WEB_IMPORT.search(source) else "lean"


def landlock_ruleset_attribute(abi: int) -> bytes:
    """`struct landlock_ruleset_attr` that handles every right which kernel ABI `abi` >= 1 knows.

    What is handled and not granted is denied: all file access, from ABI 4 TCP bind and connect,
    from ABI 6 abstract unix sockets and signals that leave the domain. Source: the kernel's
    `userspace-api/landlock.rst`.
    """
    files = (1 << 13) - 1
    files |= (1 << 13) if abi >= 2 else 0  # REFER
    files |= (1 << 14) if abi >= 3 else 0  # TRUNCATE
    files |= (1 << 15) if abi >= 5 else 0  # IOCTL_DEV
    fields = [files]
    if abi >= 4:
        fields.append(3)
    if abi >= 6:
        fields.append(3)
    return struct.pack(f"<{len(fields)}Q", *fields)


def landlock_write(abi: int) -> int:
    """Rights in the private tmpfs: files and folders may be made, changed and removed.

    No execute, no device, socket, pipe or link.
    """
    rights = LANDLOCK_READ | (1 << 1)  # WRITE_FILE
    rights |= (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8)  # REMOVE_DIR, _FILE, MAKE_DIR, MAKE_REG
    rights |= (1 << 13) if abi >= 2 else 0  # REFER
    return rights | ((1 << 14) if abi >= 3 else 0)  # TRUNCATE
