"""Compilation of the system-call tables to seccomp BPF programs.

Pure: numbers in, bytes out. Two programs confine a worker, and the kernel applies the stricter
answer. The large one is loaded once in the zygote and inherited: it allows what a tool may do and
what the zygote needs to fork and confine. The small one is loaded by each worker and takes the
zygote's part away. Default is EPERM, so that Python code sees `PermissionError`; calls that only an
attack makes kill the process. Layout: a balanced tree over ranges of call numbers, because the
kernel evaluates a program once per known number when it is loaded.

Source: the kernel's `Documentation/userspace-api/seccomp_filter.rst`. Standard library only: the
file is copied into the sandbox.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from services.toolenv.sandbox.syscalls import SyscallTable

_NUMBER_BITS = 0xFFFFFFFF

_RET_ALLOW = 0x7FFF0000
_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_EPERM, _ENOTTY, _ENOSYS = 1, 25, 38

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH = 0, 4
_MAX_JUMP = 255

_CLONE_THREAD = 0x00010000
_CLONE_NEW_NAMESPACES = 0x7E020000

_IOCTLS = (
    0x5401,
    0x541B,
    0x5413,
    0x5451,
    0x5450,
)  # TCGETS, FIONREAD, TIOCGWINSZ, FIOCLEX, FIONCLEX
_PRCTLS = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_ZYGOTE_PRCTLS = (*_PRCTLS, 1)  # PR_SET_PDEATHSIG, once in each worker
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, locks, F_DUPFD_CLOEXEC. F_SETFL would change the standard
# descriptors of later workers, which share what is behind them. F_SETOWN would let SIGIO
# reach the zygote and F_SETPIPE_SZ takes kernel memory.
_FCNTLS = (0, 1, 2, 3, 5, 6, 7, 1030)
_CLOCKS_END = 12  # the kernel's own clocks; other numbers name the clocks of processes
# Argument that names a process, which must be 0, the caller: the answers tell who exists.
_SELF_ONLY = {
    "getpriority": 1, "sched_getparam": 0, "sched_getscheduler": 0, "sched_getaffinity": 0,
    "get_robust_list": 0,
}  # fmt: skip


class Instruction(NamedTuple):
    """One `struct sock_filter`; `is_pid` marks the constant that becomes the worker's pid."""

    code: int
    constant: int = 0
    if_true: int = 0
    if_false: int = 0
    is_pid: bool = False


class FilterTemplate:
    """An assembled program that lacks only the worker's pid."""

    __slots__ = ("_code", "pid_offsets")

    def __init__(self, instructions: list[Instruction]) -> None:
        self._code = b"".join(
            struct.pack("<HBBI", i.code, i.if_true, i.if_false, i.constant) for i in instructions
        )
        self.pid_offsets = [8 * index + 4 for index, item in enumerate(instructions) if item.is_pid]

    def for_pid(self, pid: int) -> bytes:
        """The program with which process `pid` may signal itself and nobody else."""
        code = bytearray(self._code)
        for offset in self.pid_offsets:
            struct.pack_into("<I", code, offset, pid)
        return bytes(code)


_Body = tuple[Instruction, ...]

_ALLOW: _Body = (Instruction(_RETURN, _RET_ALLOW),)
_REFUSE: _Body = (Instruction(_RETURN, _RET_ERRNO | _EPERM),)
_KILL: _Body = (Instruction(_RETURN, _RET_KILL_PROCESS),)


def assemble_for_zygote(table: SyscallTable, *, has_scratch: bool) -> FilterTemplate:
    """The large program: everything of a worker, and what the zygote and confining need.

    Args:
        table: The machine's numbers.
        has_scratch: Whether workers mount a private tmpfs before they load their own filter, and
            may write there afterwards.
    """
    numbers = table.checked
    bodies = _each(table.allowed, _ALLOW) | _each(table.killed, _KILL)
    bodies |= _each(table.zygote, _ALLOW)
    bodies |= {numbers[name]: body for name, body in _argument_checks().items()}
    # Processes yes, namespaces no; the worker's program narrows these to itself.
    bodies[numbers["clone"]] = _without_bits(0, _CLONE_NEW_NAMESPACES)
    bodies[numbers["prctl"]] = _one_of(0, _ZYGOTE_PRCTLS, _EPERM)
    bodies |= _each([numbers[name] for name in ("kill", "tgkill", "prlimit64")], _ALLOW)
    if has_scratch:
        bodies |= _each(table.writing, _ALLOW) | _each(table.mounting, _ALLOW)
    return FilterTemplate(
        [
            Instruction(_LOAD, _OFFSET_ARCH),
            Instruction(_JUMP_EQUAL, table.audit_arch, 1, 0),
            *_KILL,
            Instruction(_LOAD, _OFFSET_NUMBER),
            *_tree(_segments(bodies, otherwise=_REFUSE, foreign_from=table.foreign_from)),
        ]
    )


def assemble_for_worker(table: SyscallTable, *, has_scratch: bool) -> FilterTemplate:
    """The small program: takes away what the zygote's program allows beyond a tool's needs.

    It relies on the zygote's program, which checks the architecture and refuses all else.
    """
    checks = _argument_checks()
    names = ("clone", "kill", "tgkill", "prctl", "prlimit64")
    bodies = {table.checked[name]: checks[name] for name in names}
    bodies |= _each(table.zygote, _REFUSE)
    bodies[table.zygote["seccomp"]] = _KILL
    if has_scratch:
        bodies |= _each(table.mounting, _KILL)
    segments = _segments(bodies, otherwise=_ALLOW, foreign_from=None)
    return FilterTemplate([Instruction(_LOAD, _OFFSET_NUMBER), *_tree(segments)])


def _each(numbers: Iterable[int] | dict[str, int], body: _Body) -> dict[int, _Body]:
    values = numbers.values() if isinstance(numbers, dict) else numbers
    return dict.fromkeys(values, body)


class _Segment(NamedTuple):
    start: int
    body: _Body


def _segments(
    bodies: dict[int, _Body], *, otherwise: _Body, foreign_from: int | None
) -> list[_Segment]:
    """The call numbers as maximal ranges that are treated alike, in ascending order."""
    end = _NUMBER_BITS + 1 if foreign_from is None else foreign_from
    starts = {0, *bodies, *(number + 1 for number in bodies)}
    segments: list[_Segment] = []
    for start in sorted(starts):
        body = bodies.get(start, otherwise)
        if not segments or segments[-1].body != body:
            segments.append(_Segment(start, body))
    if foreign_from is not None:
        segments.append(_Segment(end, _KILL))
    return segments


def _tree(segments: list[_Segment]) -> list[Instruction]:
    if len(segments) == 1:
        return list(segments[0].body)
    middle = len(segments) // 2
    below, above = _tree(segments[:middle]), _tree(segments[middle:])
    if len(below) > _MAX_JUMP:
        raise ValueError(f"jump of {len(below)} instructions exceeds the limit of {_MAX_JUMP}")
    return [Instruction(_JUMP_AT_LEAST, segments[middle].start, len(below), 0), *below, *above]


def _low_half(argument: int) -> int:
    return 16 + 8 * argument


def _one_of(argument: int, values: tuple[int, ...], otherwise: int) -> _Body:
    checks = [
        Instruction(_JUMP_EQUAL, value, len(values) - index, 0)
        for index, value in enumerate(values)
    ]
    return (
        Instruction(_LOAD, _low_half(argument)),
        *checks,
        Instruction(_RETURN, _RET_ERRNO | otherwise),
        *_ALLOW,
    )


def _without_bits(argument: int, bits: int) -> _Body:
    return (
        Instruction(_LOAD, _low_half(argument)),
        Instruction(_JUMP_BITS, bits, 1, 0),
        *_ALLOW,
        *_REFUSE,
    )


def _below(argument: int, end: int) -> _Body:
    return (
        Instruction(_LOAD, _low_half(argument)),
        Instruction(_JUMP_AT_LEAST, end, 1, 0),
        *_ALLOW,
        *_REFUSE,
    )


def _argument_checks() -> dict[str, _Body]:
    own_pid = (
        Instruction(_LOAD, _low_half(0)),
        Instruction(_JUMP_EQUAL, 0, 0, 1, is_pid=True),
        *_ALLOW,
        *_REFUSE,
    )
    checks = {name: _one_of(argument, (0,), _EPERM) for name, argument in _SELF_ONLY.items()}
    for name in ("clock_gettime", "clock_getres", "clock_nanosleep"):
        checks[name] = _below(0, _CLOCKS_END)
    return checks | {
        "ioctl": _one_of(1, _IOCTLS, _ENOTTY),
        "prctl": _one_of(0, _PRCTLS, _EPERM),
        "fcntl": _one_of(1, _FCNTLS, _EPERM),
        "kill": own_pid,
        "tgkill": own_pid,
        # Threads yes, processes and namespaces no. clone3 hides its flags in memory, where a filter
        # cannot look; ENOSYS makes glibc fall back to clone.
        "clone": (
            Instruction(_LOAD, _low_half(0)),
            Instruction(_JUMP_BITS, _CLONE_NEW_NAMESPACES, 2, 0),
            Instruction(_JUMP_BITS, _CLONE_THREAD, 0, 1),
            *_ALLOW,
            *_REFUSE,
        ),
        "clone3": (Instruction(_RETURN, _RET_ERRNO | _ENOSYS),),
        # Reading limits is harmless; the new-limit pointer must be null in both halves.
        "prlimit64": (
            Instruction(_LOAD, _low_half(2)),
            Instruction(_JUMP_EQUAL, 0, 0, 3),
            Instruction(_LOAD, _low_half(2) + 4),
            Instruction(_JUMP_EQUAL, 0, 0, 1),
            *_ALLOW,
            *_REFUSE,
        ),
    }
