"""The compiled filter, run by a small interpreter of the kernel's instruction set."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.toolenv.sandbox.seccomp import ALLOWED, CHECKED, KILLED, assemble

X86_64 = 0xC000003E
ALLOW, KILL, EPERM, ENOTTY, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050019, 0x00050026
PID = 4321
PROGRAM = assemble().for_pid(PID)


def decide(number: int, *arguments: int, architecture: int = X86_64) -> int:
    """What the kernel would return for one system call."""
    words = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *words)
    accumulator = position = 0
    for _ in range(len(PROGRAM) // 8):
        code, if_true, if_false, constant = struct.unpack_from("<HBBI", PROGRAM, 8 * position)
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x06:
                return constant
            case 0x15:
                position += if_true if accumulator == constant else if_false
            case 0x35:
                position += if_true if accumulator >= constant else if_false
            case 0x45:
                position += if_true if accumulator & constant else if_false
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")
    raise AssertionError("the program has no end")


@pytest.mark.parametrize("name", ALLOWED)
def test_a_listed_call_is_allowed(name):
    assert decide(ALLOWED[name]) == ALLOW


@pytest.mark.parametrize("name", KILLED)
def test_a_call_of_attackers_kills(name):
    assert decide(KILLED[name]) == KILL


_KNOWN = {*ALLOWED.values(), *KILLED.values(), *CHECKED.values()}


@settings(deadline=None)
@given((st.integers(0, 600) | st.integers(0, 0x3FFFFFFF)).filter(lambda n: n not in _KNOWN))
def test_every_other_call_is_refused_with_eperm(number):
    assert decide(number) == EPERM


@pytest.mark.parametrize("number", [41, 42, 43, 49, 50, 53, 57, 58, 59, 319, 322, 449, 600])
def test_sockets_processes_and_programs_are_refused(number):
    assert decide(number) == EPERM


@settings(deadline=None)
@given(st.integers(0x40000000, 0xFFFFFFFF))
def test_the_x32_numbers_kill(number):
    assert decide(number) == KILL


@settings(deadline=None)
@given(st.integers(0, 0xFFFFFFFF).filter(lambda value: value != X86_64), st.integers(0, 500))
def test_another_architecture_kills(architecture, number):
    assert decide(number, architecture=architecture) == KILL


def test_threads_are_allowed_and_processes_and_namespaces_are_not():
    thread = 0x3D0F00  # what glibc's pthread_create passes, CLONE_THREAD among it
    assert decide(CHECKED["clone"], thread) == ALLOW
    assert decide(CHECKED["clone"], 17) == EPERM
    assert decide(CHECKED["clone"], thread | 0x10000000) == EPERM
    assert decide(CHECKED["clone3"]) == ENOSYS


@pytest.mark.parametrize("name", ["kill", "tgkill"])
def test_a_process_may_signal_only_itself(name):
    assert decide(CHECKED[name], PID) == ALLOW
    assert decide(CHECKED[name], 1) == EPERM
    assert decide(CHECKED[name], 0xFFFFFFFF) == EPERM


def test_limits_may_be_read_and_not_written():
    assert decide(CHECKED["prlimit64"], 0, 9, 0) == ALLOW
    assert decide(CHECKED["prlimit64"], 0, 9, 0x1000) == EPERM
    assert decide(CHECKED["prlimit64"], 0, 9, 0x7FFF00000000) == EPERM


def test_signal_owners_and_pipe_sizes_cannot_be_set_by_fcntl():
    assert decide(CHECKED["fcntl"], 0, 3) == ALLOW
    assert decide(CHECKED["fcntl"], 0, 8) == EPERM
    assert decide(CHECKED["fcntl"], 0, 1031) == EPERM


def test_only_harmless_ioctls_and_prctls_pass():
    assert decide(CHECKED["ioctl"], 0, 0x5401) == ALLOW
    assert decide(CHECKED["ioctl"], 0, 0x5412) == ENOTTY
    assert decide(CHECKED["prctl"], 15) == ALLOW
    assert decide(CHECKED["prctl"], 4) == EPERM
