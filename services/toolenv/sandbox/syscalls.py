"""Which system calls a worker and its zygote may make, and their numbers on each architecture.

Sources of the numbers: the kernel's `arch/x86/entry/syscalls/syscall_64.tbl` and
`include/uapi/asm-generic/unistd.h` (aarch64). Pure data; the file is copied into the sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Each entry: number on x86_64, number on aarch64 (None where that architecture lacks the call).
_Numbers = Mapping[str, tuple[int | None, int | None]]

# fmt: off
_ALLOWED: _Numbers = {
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None),
    "fstat": (5, 80), "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "readv": (19, 65), "writev": (20, 66), "access": (21, None), "pipe": (22, None),
    "select": (23, None), "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233),
    "dup": (32, 23), "dup2": (33, None), "pause": (34, None), "nanosleep": (35, 101),
    "getitimer": (36, 102), "alarm": (37, None), "setitimer": (38, 103), "getpid": (39, 172),
    "sendto": (44, 206), "recvfrom": (45, 207), "exit": (60, 93), "uname": (63, 160),
    "getdents": (78, None), "getcwd": (79, 17), "chdir": (80, 49), "readlink": (89, None),
    "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174),
    "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "getpgrp": (111, None), "getgroups": (115, 158), "getresuid": (118, 148),
    "getresgid": (120, 150), "sigaltstack": (131, 132), "statfs": (137, 43),
    "fstatfs": (138, 44), "arch_prctl": (158, None), "gettid": (186, 178), "time": (201, None),
    "futex": (202, 98), "getdents64": (217, 61), "set_tid_address": (218, 96),
    "restart_syscall": (219, 128), "fadvise64": (221, 223), "exit_group": (231, 94),
    "epoll_wait": (232, None), "epoll_ctl": (233, 21), "openat": (257, 56),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
    "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99),
    "epoll_pwait": (281, 22), "eventfd2": (290, 19), "epoll_create1": (291, 20),
    "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69), "getcpu": (309, 168),
    "getrandom": (318, 278), "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
    "close_range": (436, 436), "faccessat2": (439, 439),
}
# Allowed with some arguments only, see `seccomp`.
_CHECKED: _Numbers = {
    "ioctl": (16, 29), "clone": (56, 220), "kill": (62, 129), "fcntl": (72, 25),
    "getpriority": (140, 141), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "prctl": (157, 167), "sched_getaffinity": (204, 123), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "tgkill": (234, 131),
    "get_robust_list": (274, 100), "prlimit64": (302, 261), "clone3": (435, 435),
}
# Only an attack makes these; the process dies.
_KILLED: _Numbers = {
    "ptrace": (101, 117), "syslog": (103, 116), "setuid": (105, 146), "setgid": (106, 144),
    "setreuid": (113, 145), "setregid": (114, 143), "setgroups": (116, 159),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151),
    "setfsgid": (123, 152), "capset": (126, 91), "mknod": (133, None), "personality": (135, 92),
    "modify_ldt": (154, None), "pivot_root": (155, 41), "adjtimex": (159, 171),
    "chroot": (161, 51), "acct": (163, 89), "settimeofday": (164, 170), "mount": (165, 40),
    "umount2": (166, 39), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None),
    "ioperm": (173, None), "init_module": (175, 105), "delete_module": (176, 106),
    "quotactl": (179, 60), "lookup_dcookie": (212, 18), "remap_file_pages": (216, 234),
    "clock_settime": (227, 112), "kexec_load": (246, 104), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "migrate_pages": (256, 238),
    "mknodat": (259, 33), "unshare": (272, 97), "vmsplice": (278, 75), "move_pages": (279, 239),
    "perf_event_open": (298, 241), "fanotify_init": (300, 262), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "clock_adjtime": (305, 266), "setns": (308, 268),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "finit_module": (313, 273), "seccomp": (317, 277), "kexec_file_load": (320, 294),
    "bpf": (321, 280), "userfaultfd": (323, 282), "pkey_alloc": (330, 289),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "pidfd_getfd": (438, 438), "mount_setattr": (442, 442),
}
# What the zygote needs to fork, confine and reap workers; the worker's own filter takes it away.
_ZYGOTE: _Numbers = {
    "sendmsg": (46, 211), "recvmsg": (47, 212), "wait4": (61, 260), "setpriority": (141, 140),
    "seccomp": (317, 277), "pidfd_open": (434, 434),
}
# Writing files, allowed only where a worker has a private tmpfs.
_WRITING: _Numbers = {
    "pwrite64": (18, 68), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46),
    "rename": (82, None), "mkdir": (83, None), "rmdir": (84, None), "unlink": (87, None),
    "chmod": (90, None), "fchmod": (91, 52), "mkdirat": (258, 34), "unlinkat": (263, 35),
    "renameat": (264, 38), "utimensat": (280, 88), "fallocate": (285, 47), "pwritev": (296, 70),
    "renameat2": (316, 276),
}
# What a worker with a private tmpfs needs until it loads its own filter.
_MOUNTING: _Numbers = {
    "capset": (126, 91), "mount": (165, 40), "unshare": (272, 97),
    "landlock_restrict_self": (446, 446),
}
# fmt: on


class SyscallTable(NamedTuple):
    """One architecture's numbers, by what happens to the call."""

    audit_arch: int  # AUDIT_ARCH_* of linux/audit.h
    foreign_from: int | None  # numbers from here on belong to another ABI (x32) and kill
    allowed: dict[str, int]
    checked: dict[str, int]
    killed: dict[str, int]
    zygote: dict[str, int]
    writing: dict[str, int]
    mounting: dict[str, int]


def _column(numbers: _Numbers, column: int) -> dict[str, int]:
    pairs = ((name, row[column]) for name, row in numbers.items())
    return {name: number for name, number in pairs if number is not None}


def _table(column: int, *, audit_arch: int, foreign_from: int | None) -> SyscallTable:
    groups = (_ALLOWED, _CHECKED, _KILLED, _ZYGOTE, _WRITING, _MOUNTING)
    return SyscallTable(audit_arch, foreign_from, *(_column(group, column) for group in groups))


# The aarch64 table was never run on such a machine, only interpreted in a unit test.
TABLES: dict[str, SyscallTable] = {
    "x86_64": _table(0, audit_arch=0xC000003E, foreign_from=0x40000000),
    "aarch64": _table(1, audit_arch=0xC00000B7, foreign_from=None),
}
