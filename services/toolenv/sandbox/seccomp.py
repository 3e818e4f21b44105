"""The system calls a sandboxed worker may make, and their compilation to a seccomp BPF program.

Pure: numbers in, bytes out. Default is EPERM, so that Python code sees `PermissionError`; calls
that only an attack makes kill the process. Layout: a balanced tree over ranges of call numbers,
because the kernel evaluates the program once per known number when it is loaded and a linear list
makes that the largest cost of a worker.

Source: the kernel's `Documentation/userspace-api/seccomp_filter.rst` and
`arch/x86/entry/syscalls/syscall_64.tbl`. Standard library only: the file is copied into the
sandbox.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MACHINE = "x86_64"  # the only architecture whose table is written down here

_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_NUMBER_END = 1 << 32

_RET_ALLOW = 0x7FFF0000
_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_EPERM, _ENOTTY, _ENOSYS = 1, 25, 38

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH = 0, 4
_MAX_JUMP = 255

_CLONE_THREAD = 0x00010000
_CLONE_NEW_NAMESPACES = 0x7E020000

# fmt: off
ALLOWED: dict[str, int] = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7,
    "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "readv": 19, "writev": 20,
    "access": 21, "pipe": 22, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28,
    "dup": 32, "dup2": 33, "pause": 34, "nanosleep": 35, "getitimer": 36, "alarm": 37,
    "setitimer": 38, "getpid": 39, "sendto": 44, "recvfrom": 45, "exit": 60, "uname": 63,
    "getdents": 78, "getcwd": 79, "chdir": 80, "readlink": 89, "umask": 95, "gettimeofday": 96,
    "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111, "getgroups": 115,
    "getresuid": 118, "getresgid": 120, "sigaltstack": 131, "statfs": 137, "fstatfs": 138,
    "getpriority": 140, "sched_getparam": 143, "sched_getscheduler": 145, "arch_prctl": 158,
    "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "getdents64": 217,
    "set_tid_address": 218, "restart_syscall": 219, "fadvise64": 221, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232,
    "epoll_ctl": 233, "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269,
    "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "get_robust_list": 274,
    "epoll_pwait": 281, "eventfd2": 290, "epoll_create1": 291, "dup3": 292, "pipe2": 293,
    "preadv": 295, "getcpu": 309, "getrandom": 318, "membarrier": 324, "statx": 332,
    "rseq": 334, "close_range": 436, "faccessat2": 439,
}
CHECKED: dict[str, int] = {
    "ioctl": 16, "clone": 56, "kill": 62, "fcntl": 72, "prctl": 157, "tgkill": 234,
    "prlimit64": 302, "clone3": 435,
}
KILLED: dict[str, int] = {
    "ptrace": 101, "syslog": 103, "setuid": 105, "setgid": 106, "setgroups": 116,
    "setresuid": 117, "setresgid": 119, "capset": 126, "mknod": 133, "personality": 135,
    "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159, "chroot": 161, "acct": 163,
    "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
    "delete_module": 176, "quotactl": 179, "lookup_dcookie": 212, "remap_file_pages": 216,
    "clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
    "migrate_pages": 256, "mknodat": 259, "unshare": 272, "vmsplice": 278, "move_pages": 279,
    "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "kcmp": 312, "finit_module": 313, "seccomp": 317, "kexec_file_load": 320, "bpf": 321,
    "userfaultfd": 323, "pkey_alloc": 330, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442,
}
# fmt: on

_IOCTLS = (
    0x5401,
    0x541B,
    0x5413,
    0x5451,
    0x5450,
)  # TCGETS, FIONREAD, TIOCGWINSZ, FIOCLEX, FIONCLEX
_PRCTLS = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, locks, F_DUPFD_CLOEXEC. F_SETOWN would let SIGIO
# reach the zygote and F_SETPIPE_SZ takes kernel memory.
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)


class Instruction(NamedTuple):
    """One `struct sock_filter`; `is_pid` marks the constant that becomes the worker's pid."""

    code: int
    constant: int = 0
    if_true: int = 0
    if_false: int = 0
    is_pid: bool = False


class FilterTemplate:
    """An assembled program that lacks only the worker's pid."""

    __slots__ = ("_code", "_pid_offsets")

    def __init__(self, instructions: list[Instruction]) -> None:
        self._code = b"".join(
            struct.pack("<HBBI", i.code, i.if_true, i.if_false, i.constant) for i in instructions
        )
        self._pid_offsets = [
            8 * index + 4 for index, item in enumerate(instructions) if item.is_pid
        ]

    def for_pid(self, pid: int) -> bytes:
        """The program with which process `pid` may signal itself and nobody else."""
        code = bytearray(self._code)
        for offset in self._pid_offsets:
            struct.pack_into("<I", code, offset, pid)
        return bytes(code)


def assemble() -> FilterTemplate:
    """Compile the tables above."""
    return FilterTemplate(
        [
            Instruction(_LOAD, _OFFSET_ARCH),
            Instruction(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
            Instruction(_RETURN, _RET_KILL_PROCESS),
            Instruction(_LOAD, _OFFSET_NUMBER),
            *_tree(_segments()),
        ]
    )


class _Segment(NamedTuple):
    start: int
    body: tuple[Instruction, ...]


def _segments() -> list[_Segment]:
    """The call numbers as maximal ranges that are treated alike, in ascending order."""
    refuse = (Instruction(_RETURN, _RET_ERRNO | _EPERM),)
    bodies: dict[int, tuple[Instruction, ...]] = {
        number: _argument_check(name) for name, number in CHECKED.items()
    }
    bodies |= {number: (Instruction(_RETURN, _RET_ALLOW),) for number in ALLOWED.values()}
    bodies |= {number: (Instruction(_RETURN, _RET_KILL_PROCESS),) for number in KILLED.values()}
    segments: list[_Segment] = []
    starts = {0, _X32_BIT} | {n for number in bodies for n in (number, number + 1)}
    for start in sorted(starts):
        body = (
            (Instruction(_RETURN, _RET_KILL_PROCESS),)
            if start >= _X32_BIT
            else bodies.get(start, refuse)
        )
        if not segments or segments[-1].body != body:
            segments.append(_Segment(start, body))
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


def _one_of(argument: int, values: tuple[int, ...], otherwise: int) -> tuple[Instruction, ...]:
    checks = [
        Instruction(_JUMP_EQUAL, value, len(values) - index, 0)
        for index, value in enumerate(values)
    ]
    return (
        Instruction(_LOAD, _low_half(argument)),
        *checks,
        Instruction(_RETURN, _RET_ERRNO | otherwise),
        Instruction(_RETURN, _RET_ALLOW),
    )


def _argument_check(name: str) -> tuple[Instruction, ...]:
    allow, refuse = Instruction(_RETURN, _RET_ALLOW), Instruction(_RETURN, _RET_ERRNO | _EPERM)
    own_pid = (
        Instruction(_LOAD, _low_half(0)),
        Instruction(_JUMP_EQUAL, 0, 0, 1, is_pid=True),
        allow,
        refuse,
    )
    return {
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
            allow,
            refuse,
        ),
        "clone3": (Instruction(_RETURN, _RET_ERRNO | _ENOSYS),),
        # Reading limits is harmless; the new-limit pointer must be null in both halves.
        "prlimit64": (
            Instruction(_LOAD, _low_half(2)),
            Instruction(_JUMP_EQUAL, 0, 0, 3),
            Instruction(_LOAD, _low_half(2) + 4),
            Instruction(_JUMP_EQUAL, 0, 0, 1),
            allow,
            refuse,
        ),
    }[name]
