"""Irreversible confinement of a process: rlimits, Landlock, capabilities, seccomp.

Runs inside the sandbox, before any tool code. Standard library only; each failure raises, and the
caller exits.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct

from services.toolenv.sandbox.policy import (
    LANDLOCK_READ,
    READABLE_FOLDERS,
    SandboxLimits,
    landlock_ruleset_attribute,
)

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SYS_CAPSET, _SYS_SECCOMP = 126, 317
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl({option})")


def forbid_new_privileges() -> None:
    """Set no_new_privs, which an ordinary user needs to load Landlock and seccomp."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def hide_from_same_uid() -> None:
    """Make the process not dumpable: nobody of the same uid may trace it or read its memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def build_landlock_ruleset() -> tuple[int | None, int]:
    """A ruleset that grants reading of the readable folders only.

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
    for folder in READABLE_FOLDERS:
        path = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("<Qi", LANDLOCK_READ, path)
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
    return ruleset, abi


def confine_worker(
    *, zygote_pid: int, limits: SandboxLimits, ruleset: int | None, program: bytes
) -> None:
    """Give up everything that a tool does not need; closes `ruleset`.

    Raises:
        OSError: A step failed; the process must exit without running tool code.
    """
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != zygote_pid:
        raise OSError("the zygote died before the worker could be tied to it")
    hide_from_same_uid()
    os.nice(limits.niceness)
    _limit_resources(limits)
    forbid_new_privileges()
    if ruleset is not None:
        _checked(
            _libc.syscall(_SYS_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0)),
            "landlock_restrict_self",
        )
        os.close(ruleset)
    _drop_capabilities()
    _load_seccomp(program)


def _limit_resources(limits: SandboxLimits) -> None:
    for kind, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (resource.RLIMIT_NPROC, limits.threads, limits.threads),
        (resource.RLIMIT_FSIZE, 0, 0),  # there is nothing writable to begin with
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_SIGPENDING, 64, 64),
        (resource.RLIMIT_STACK, 8 << 20, 8 << 20),
    ):
        resource.setrlimit(kind, (soft, hard))


def _drop_capabilities() -> None:
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.syscall(_SYS_CAPSET, header, bytes(24)), "capset")


def _load_seccomp(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    descriptor = _FilterProgram(len(program) // 8, ctypes.addressof(code))
    _checked(
        _libc.syscall(
            _SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, ctypes.c_uint(0), ctypes.byref(descriptor)
        ),
        "seccomp",
    )
