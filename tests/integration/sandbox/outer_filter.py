"""A seccomp filter around the host itself, as a container runtime or a hardened kernel sets one.

For child processes: `python outer_filter.py NAME COMMAND...` loads the filter NAME and becomes
COMMAND.
"""

import ctypes
import os
import struct
import sys

_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NUMBER_OFFSET, _FIRST_ARGUMENT_OFFSET = 0, 16
_CLONE, _CLONE3, _SECCOMP, _PRCTL = 56, 435, 317, 157
_LANDLOCK = (444, 445, 446)
_PR_SET_SECCOMP = 22

# What Docker's default profile refuses to a container without CAP_SYS_ADMIN and the other
# capabilities that a default container lacks: acct, add_key, bpf, clock_adjtime, clock_settime,
# delete_module, finit_module, fsconfig, fsmount, fsopen, fspick, get_mempolicy, init_module,
# ioperm, iopl, kexec_*, keyctl, lookup_dcookie, mbind, mount, mount_setattr, move_mount,
# move_pages, name_to_handle_at, nfsservctl, open_by_handle_at, open_tree, perf_event_open,
# personality (mostly), pivot_root, quotactl, reboot, request_key, set_mempolicy, setdomainname,
# sethostname, setns, settimeofday, swapoff, swapon, syslog, umount2, unshare, userfaultfd,
# vhangup, io_uring_*. Source: moby's profiles/seccomp/default.json.
_DOCKER_REFUSES = (
    163, 248, 321, 305, 227, 176, 313, 431, 432, 430, 433, 239, 175, 173, 172, 246, 320, 250, 212,
    237, 165, 442, 429, 279, 303, 180, 304, 428, 298, 155, 179, 169, 249, 238, 171, 170, 308, 164,
    168, 167, 103, 166, 272, 323, 153, 425, 426, 427,
)  # fmt: skip

_REFUSED: dict[str, dict[int, int]] = {
    "docker": dict.fromkeys(_DOCKER_REFUSES, _EPERM) | {_CLONE3: _ENOSYS},
    "no-namespaces": {272: _EPERM, _CLONE3: _ENOSYS},
    "no-seccomp": {_SECCOMP: _ENOSYS},
    "no-landlock": dict.fromkeys(_LANDLOCK, _ENOSYS),
}
_WITHOUT_NAMESPACES = {"docker", "no-namespaces"}


def _instruction(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, constant)


def program(name: str) -> bytes:
    """The filter as `struct sock_filter[]`."""
    code = _instruction(_LOAD, _NUMBER_OFFSET)
    for number, error in _REFUSED[name].items():
        code += _instruction(_EQUAL, number, 0, 1) + _instruction(_RETURN, _ERRNO | error)
    if name in _WITHOUT_NAMESPACES:
        code += _instruction(_EQUAL, _CLONE, 0, 3)
        code += _instruction(_LOAD, _FIRST_ARGUMENT_OFFSET)
        code += _instruction(_BITS, _NAMESPACES, 0, 1)
        code += _instruction(_RETURN, _ERRNO | _EPERM)
    return code + _instruction(_RETURN, _ALLOW)


def load(name: str) -> None:
    """Put this process and its children under the filter, for ever.

    Raises:
        OSError: The kernel refused; root or no_new_privs is needed.
    """

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    code = program(name)
    buffer = ctypes.create_string_buffer(code, len(code))
    descriptor = Program(len(code) // 8, ctypes.addressof(buffer))
    if os.geteuid() != 0 or "no_new_privs" in sys.argv:
        libc.prctl(38, ctypes.c_ulong(1), 0, 0, 0)
    result = libc.syscall(
        ctypes.c_long(_SECCOMP), ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.byref(descriptor)
    )
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    load(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
