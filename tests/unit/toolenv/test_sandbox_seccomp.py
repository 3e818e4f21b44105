"""The compiled filters, run by a small interpreter of the kernel's instruction set.

Both machines' tables are interpreted here; only x86_64 was ever loaded into a kernel.
"""

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.toolenv.sandbox.seccomp import assemble_for_worker, assemble_for_zygote
from services.toolenv.sandbox.syscalls import TABLES, SyscallTable

ALLOW, KILL, EPERM, ENOTTY, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050019, 0x00050026
PID = 4321
_THREAD = 0x3D0F00  # what glibc's pthread_create passes, CLONE_THREAD among it
_FORK = 0x1200011  # what glibc's fork passes
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS


def interpret(program: bytes, number: int, arguments: tuple[int, ...], architecture: int) -> int:
    """What the kernel would return for one system call."""
    words = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *words)
    accumulator = position = 0
    for _ in range(len(program) // 8):
        code, if_true, if_false, constant = struct.unpack_from("<HBBI", program, 8 * position)
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


@dataclass(frozen=True)
class Filters:
    """Both programs of one machine."""

    table: SyscallTable
    zygote: bytes
    worker: bytes

    def in_zygote(self, number: int, *arguments: int, architecture: int | None = None) -> int:
        return interpret(self.zygote, number, arguments, architecture or self.table.audit_arch)

    def in_worker(self, number: int, *arguments: int, architecture: int | None = None) -> int:
        """The stricter of two answers: kill before errno before allow, as the kernel decides."""
        arch = architecture or self.table.audit_arch
        answers = [interpret(p, number, arguments, arch) for p in (self.zygote, self.worker)]
        return min(answers, key=lambda answer: (answer != KILL, answer == ALLOW))


def _filters(machine: str, *, has_scratch: bool) -> Filters:
    table = TABLES[machine]
    return Filters(
        table,
        assemble_for_zygote(table, has_scratch=has_scratch).for_pid(0),
        assemble_for_worker(table, has_scratch=has_scratch).for_pid(PID),
    )


ALL = {
    (machine, has_scratch): _filters(machine, has_scratch=has_scratch)
    for machine in TABLES
    for has_scratch in (False, True)
}


@pytest.fixture(params=TABLES)
def plain(request) -> Filters:
    """Without a private tmpfs, as by default."""
    return ALL[request.param, False]


@pytest.fixture(params=TABLES)
def scratch(request) -> Filters:
    """With a private tmpfs."""
    return ALL[request.param, True]


@pytest.fixture(params=ALL, ids=str)
def either(request) -> Filters:
    return ALL[request.param]


def _entries(group: str) -> list:
    return [
        pytest.param(machine, number, id=f"{machine}-{name}")
        for machine, table in TABLES.items()
        for name, number in getattr(table, group).items()
    ]


@pytest.mark.parametrize(("machine", "number"), _entries("allowed"))
def test_a_listed_call_is_allowed(machine, number):
    assert ALL[machine, False].in_worker(number) == ALLOW
    assert ALL[machine, False].in_zygote(number) == ALLOW


@pytest.mark.parametrize(("machine", "number"), _entries("killed"))
def test_a_call_of_attackers_kills_a_worker(machine, number):
    assert ALL[machine, False].in_worker(number) == KILL
    assert ALL[machine, True].in_worker(number) == KILL


@pytest.mark.parametrize(("machine", "number"), _entries("zygote"))
def test_what_only_the_zygote_needs_is_taken_from_workers(machine, number):
    assert ALL[machine, False].in_zygote(number) == ALLOW
    assert ALL[machine, False].in_worker(number) in {EPERM, KILL}


@pytest.mark.parametrize(("machine", "number"), _entries("mounting"))
def test_mounting_is_possible_only_before_the_worker_s_own_filter(machine, number):
    assert ALL[machine, True].in_zygote(number) == ALLOW
    assert ALL[machine, True].in_worker(number) == KILL
    assert ALL[machine, False].in_zygote(number) in {EPERM, KILL}


@pytest.mark.parametrize(("machine", "number"), _entries("writing"))
def test_writing_calls_need_a_private_tmpfs(machine, number):
    assert ALL[machine, True].in_worker(number) == ALLOW
    assert ALL[machine, False].in_worker(number) == EPERM


@pytest.mark.parametrize("machine", TABLES)
def test_no_number_is_in_two_groups_that_disagree(machine):
    table = TABLES[machine]
    groups = [table.allowed, table.checked, table.writing, table.killed]
    numbers = [number for group in groups for number in group.values()]
    assert len(numbers) == len(set(numbers))


def test_the_programs_fit_the_kernel_and_the_worker_s_is_small(either):
    assert len(either.zygote) // 8 < _MAX_INSTRUCTIONS
    assert len(either.worker) // 8 < 100


@settings(deadline=None)
@given(st.sampled_from(sorted(TABLES)), st.integers(0, 600) | st.integers(0, 0x3FFFFFFF))
def test_every_unlisted_call_is_refused_with_eperm(machine, number):
    filters = ALL[machine, False]
    table = filters.table
    known = {n for group in table[2:] for n in group.values()}
    expected = {EPERM} if number not in known else {ALLOW, KILL, EPERM, ENOSYS, ENOTTY}
    assert filters.in_worker(number) in expected


@pytest.mark.parametrize("number", [41, 42, 43, 49, 50, 53, 57, 58, 59, 319, 322, 449, 600])
def test_sockets_processes_and_programs_are_refused_on_x86_64(number):
    assert ALL["x86_64", False].in_worker(number) == EPERM


@pytest.mark.parametrize("number", [198, 199, 200, 201, 202, 203, 221, 279, 281, 449, 600])
def test_sockets_and_programs_are_refused_on_aarch64(number):
    assert ALL["aarch64", False].in_worker(number) == EPERM


@settings(deadline=None)
@given(st.integers(0x40000000, 0xFFFFFFFF))
def test_the_x32_numbers_kill(number):
    assert ALL["x86_64", False].in_worker(number) == KILL


@settings(deadline=None)
@given(st.sampled_from(sorted(TABLES)), st.integers(1, 0xFFFFFFFF), st.integers(0, 500))
def test_another_architecture_kills(machine, offset, number):
    filters = ALL[machine, False]
    other = (filters.table.audit_arch + offset) & 0xFFFFFFFF or 1
    assert filters.in_worker(number, architecture=other) == KILL


def test_threads_are_allowed_and_processes_and_namespaces_are_not(either):
    clone = either.table.checked["clone"]
    assert either.in_worker(clone, _THREAD) == ALLOW
    assert either.in_worker(clone, _FORK) == EPERM
    assert either.in_worker(clone, _THREAD | 0x10000000) == EPERM
    assert either.in_worker(either.table.checked["clone3"]) == ENOSYS


def test_the_zygote_may_fork_but_not_make_namespaces(either):
    clone = either.table.checked["clone"]
    assert either.in_zygote(clone, _FORK) == ALLOW
    assert either.in_zygote(clone, _FORK | 0x10000000) == EPERM
    assert either.in_zygote(either.table.checked["clone3"]) == ENOSYS


@pytest.mark.parametrize("name", ["kill", "tgkill"])
def test_a_process_may_signal_only_itself(either, name):
    number = either.table.checked[name]
    assert either.in_worker(number, PID) == ALLOW
    assert either.in_worker(number, 1) == EPERM
    assert either.in_worker(number, 0xFFFFFFFF) == EPERM


def test_limits_may_be_read_and_not_written(either):
    number = either.table.checked["prlimit64"]
    assert either.in_worker(number, 0, 9, 0) == ALLOW
    assert either.in_worker(number, 0, 9, 0x1000) == EPERM
    assert either.in_worker(number, 0, 9, 0x7FFF00000000) == EPERM


def test_signal_owners_and_pipe_sizes_cannot_be_set_by_fcntl(either):
    number = either.table.checked["fcntl"]
    assert either.in_worker(number, 0, 3) == ALLOW
    assert either.in_worker(number, 0, 4) == EPERM
    assert either.in_worker(number, 0, 8) == EPERM
    assert either.in_worker(number, 0, 1031) == EPERM


def test_only_harmless_ioctls_and_prctls_pass(either):
    ioctl, prctl = either.table.checked["ioctl"], either.table.checked["prctl"]
    assert either.in_worker(ioctl, 0, 0x5401) == ALLOW
    assert either.in_worker(ioctl, 0, 0x5412) == ENOTTY
    assert either.in_worker(prctl, 15) == ALLOW
    assert either.in_worker(prctl, 4) == EPERM
    assert either.in_worker(prctl, 1) == EPERM
    assert either.in_zygote(prctl, 1) == ALLOW


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("sched_getaffinity", (0,), (17,)),
        ("sched_getscheduler", (0,), (17,)),
        ("sched_getparam", (0,), (17,)),
        ("get_robust_list", (0,), (17,)),
        ("getpriority", (0, 0), (0, 17)),
        ("clock_gettime", (1,), (0xFFFFFFFA,)),
        ("clock_nanosleep", (1,), (0xFFFFFFFA,)),
        ("clock_getres", (11,), (12,)),
    ],
)
def test_nothing_can_be_asked_about_other_processes(either, name, own, other):
    number = either.table.checked[name]
    assert either.in_worker(number, *own) == ALLOW
    assert either.in_worker(number, *other) == EPERM
