"""Irreversible confinement of processes: rlimits, Landlock, capabilities, seccomp.

Runs inside the sandbox, before any tool code. What forking inherits is given up once, in the
zygote; the rest in each worker. Standard library only; each failure raises, and the caller exits.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct

from services.toolenv.sandbox.policy import (
    LANDLOCK_READ,
    READABLE_FOLDERS,
    SCRATCH_FOLDER,
    SCRATCH_MOUNT,
    SandboxLimits,
    landlock_ruleset_attribute,
    landlock_write,
)
from services.toolenv.sandbox.seccomp import (
    FilterTemplate,
    assemble_for_worker,
    assemble_for_zygote,
)
from services.toolenv.sandbox.syscalls import TABLES

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1
_CLONE_NEWNS = 0x00020000
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8  # without 1, MS_RDONLY
_SCRATCH_INODES = 1024
_SIGKILL = 9

_TABLE = TABLES[os.uname().machine]
_SYS_CAPSET, _SYS_SECCOMP = _TABLE.mounting["capset"], _TABLE.zygote["seccomp"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_fork = ctypes.PyDLL(None, use_errno=True).fork  # keeps the interpreter's lock, unlike CDLL


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class _Filter:
    """A seccomp program in the memory and form that the kernel takes, made once in the zygote."""

    def __init__(self, template: FilterTemplate) -> None:
        code = template.for_pid(0)
        self._pid_offsets = template.pid_offsets
        self._code = ctypes.create_string_buffer(code, len(code))
        self._program = _FilterProgram(len(code) // 8, ctypes.addressof(self._code))
        self._reference = ctypes.byref(self._program)

    def load(self, pid: int) -> None:
        for offset in self._pid_offsets:
            struct.pack_into("<I", self._code, offset, pid)
        _checked(
            _libc.syscall(_SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, 0, self._reference), "seccomp"
        )


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl({option})")


def fork_bare() -> int:
    """`fork` of libc without the interpreter's chores after it, which cost 0.4 ms and 185 pages.

    They renew locks and thread states that other threads might have held. The caller has one
    thread, holds no lock, and reseeds what must differ between children.

    Raises:
        OSError: There are too many processes, or too little memory.
    """
    return _checked(_fork(), "fork")


def forbid_new_privileges() -> None:
    """Set no_new_privs, which an ordinary user needs to load Landlock and seccomp."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def hide_from_same_uid() -> None:
    """Make the process not dumpable: nobody of the same uid may trace it or read its memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _build_landlock_ruleset(limits: SandboxLimits) -> tuple[int | None, int]:
    """A ruleset that grants reading of the readable folders, and writing to the private tmpfs.

    The tmpfs is mounted later, so its rule is on the folder above: a rule on a folder that a mount
    hides is void.

    Returns:
        Its file descriptor (None when the kernel has no Landlock) and the ABI version (0 likewise).
    """
    abi = int(
        _libc.syscall(
            _SYS_LANDLOCK_CREATE,
            None,
            ctypes.c_size_t(0),
            ctypes.c_uint(_LANDLOCK_CREATE_RULESET_VERSION),
        )
    )
    if abi < 1:
        return None, 0
    attribute = landlock_ruleset_attribute(abi)
    ruleset = _checked(
        _libc.syscall(
            _SYS_LANDLOCK_CREATE, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint(0)
        ),
        "landlock_create_ruleset",
    )
    rights = dict.fromkeys(READABLE_FOLDERS, LANDLOCK_READ)
    if limits.scratch_bytes:
        rights[SCRATCH_FOLDER] = landlock_write(abi)
    for folder, right in rights.items():
        _allow_beneath(ruleset, folder, right)
    return ruleset, abi


def _allow_beneath(ruleset: int, folder: str, rights: int) -> None:
    path = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("<Qi", rights, path)
        _checked(
            _libc.syscall(
                _SYS_LANDLOCK_ADD,
                ctypes.c_int(ruleset),
                _LANDLOCK_RULE_PATH_BENEATH,
                rule,
                ctypes.c_uint(0),
            ),
            f"landlock_add_rule({folder})",
        )
    finally:
        os.close(path)


class Confinement:
    """The two halves: `__init__` confines the zygote, `confine_worker` each worker.

    `landlock_abi` is the kernel's version, 0 when it has none.

    Raises:
        OSError: A step failed; the process must exit without running tool code.
    """

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._zygote_pid = os.getpid()
        self._ruleset, self.landlock_abi = _build_landlock_ruleset(limits)
        self._cpu_limit = (limits.cpu_s, limits.cpu_s + 1)
        self._process_limit = (limits.threads, limits.threads)
        self._has_scratch = limits.scratch_bytes > 0
        self._filter = _Filter(assemble_for_worker(_TABLE, has_scratch=self._has_scratch))
        _limit_inherited_resources(limits)
        if not self._has_scratch:  # a process under Landlock cannot mount
            self._restrict()
        _Filter(assemble_for_zygote(_TABLE, has_scratch=self._has_scratch)).load(0)

    def confine_worker(self) -> None:
        """Give up everything that a tool does not need, for ever.

        Raises:
            OSError: A step failed; the process must exit without running tool code.
        """
        limits = self._limits
        _checked(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL), "prctl")
        if os.getppid() != self._zygote_pid:
            raise OSError("the zygote died before the worker could be tied to it")
        resource.setrlimit(resource.RLIMIT_CPU, self._cpu_limit)
        resource.setrlimit(resource.RLIMIT_NPROC, self._process_limit)
        if limits.niceness:
            os.nice(limits.niceness)
        if self._has_scratch:
            _mount_scratch(limits.scratch_bytes)
            self._restrict()
        self._filter.load(os.getpid())

    def _restrict(self) -> None:
        if self._ruleset is not None:
            _checked(
                _libc.syscall(
                    _SYS_LANDLOCK_RESTRICT, ctypes.c_int(self._ruleset), ctypes.c_uint(0)
                ),
                "landlock_restrict_self",
            )
            os.close(self._ruleset)
        _drop_capabilities()


def _mount_scratch(size_bytes: int) -> None:
    """Mount an empty tmpfs that only this process sees and that ends with it."""
    _checked(_libc.unshare(_CLONE_NEWNS), "unshare")
    options = f"size={size_bytes},nr_inodes={_SCRATCH_INODES},mode=0700".encode("ascii")
    flags = ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC)
    mounted = _libc.mount(b"tmpfs", SCRATCH_MOUNT.encode("ascii"), b"tmpfs", flags, options)
    _checked(mounted, f"mount({SCRATCH_MOUNT})")


def _limit_inherited_resources(limits: SandboxLimits) -> None:
    """The limits that do not hinder the zygote; processor time and processes are the worker's."""
    for kind, limit in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 64),
        (resource.RLIMIT_STACK, 8 << 20),
    ):
        resource.setrlimit(kind, (limit, limit))


def _drop_capabilities() -> None:
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.syscall(_SYS_CAPSET, header, bytes(24)), "capset")
