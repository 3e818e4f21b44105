"""Canary attacks that run through the real pool before the first tool does.

Each probe is a tool that tries one thing a tool must not be able to do and returns only if it
succeeded. The sandbox is refused when any of them returns, or ends otherwise than expected, or when
a harmless tool fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from platform import machine
from typing import Protocol

from services.toolenv.sandbox.frames import JsonValue
from services.toolenv.sandbox.policy import SandboxLimits
from services.toolenv.sandbox.results import SandboxOutcome as Outcome
from services.toolenv.sandbox.results import SandboxResult, SandboxUnavailable
from services.toolenv.sandbox.syscalls import TABLES

_DEADLINE_S = 20.0  # generous: only the loop probe is expected to last
_LOOP_DEADLINE_S = 0.3
_MAX_KILL_ATTEMPTS = 3
_FIX_FILES = "check that the kernel has Landlock (>= 5.13, lsm=landlock) or use tier 'ns'"
_FIX_SECCOMP = (
    "run a kernel with CONFIG_SECCOMP_FILTER and without another runtime that overrides it"
)
_FIX_KILL = (
    "grant the container the capability KILL (compose: cap_add: [SETUID, SETGID, SYS_CHROOT, KILL])"
)


class _Pool(Protocol):
    async def call(
        self, *, source: str, function: str, arguments: Mapping[str, JsonValue], deadline_s: float
    ) -> SandboxResult: ...


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack and the outcomes that mean it was stopped."""

    name: str
    source: str
    expected: frozenset[Outcome]
    fix: str
    deadline_s: float = _DEADLINE_S


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How one probe ended; `detail` explains a failure or names what stopped the attack."""

    name: str
    is_passed: bool
    detail: str


_STOPPED = frozenset({Outcome.VIOLATION})


def canary_probes(limits: SandboxLimits) -> tuple[Probe, ...]:
    """The attacks for a sandbox with these limits."""
    return (*_file_probes(), *_system_call_probes(), *_resource_probes(limits))


def _file_probes() -> tuple[Probe, ...]:
    bodies = {
        "read_passwd": "return open('/etc/passwd').read()",
        "read_proc": "import os; return os.listdir('/proc/self')",
        "write_file": "return open('/tmp/canary', 'w').write('x')",
        "write_stdlib": "import os; return open(os.__file__, 'a').write('#')",
    }
    return tuple(Probe(name, _tool(body), _STOPPED, _FIX_FILES) for name, body in bodies.items())


def _system_call_probes() -> tuple[Probe, ...]:
    bodies = {
        "open_socket": "import socket; return str(socket.socket())",
        "fork": "import os; return os.fork()",
        "exec": "import os; os.execv('/usr/bin/' + os.listdir('/usr/bin')[0], ['x'])",
        "signal_others": "import os; return str(os.kill(os.getppid(), 0))",
        "ptrace": _raw_call("ptrace", "0, 0, 0, 0"),
        "unshare": _raw_call("unshare", "0x10000000"),
    }
    return tuple(Probe(name, _tool(body), _STOPPED, _FIX_SECCOMP) for name, body in bodies.items())


def _resource_probes(limits: SandboxLimits) -> tuple[Probe, ...]:
    too_much = limits.memory_bytes + (64 << 20)
    return (
        Probe(
            "environment",
            _tool("import os; return os.environ[sorted(os.environ)[0]]"),
            frozenset({Outcome.TOOL_ERROR}),  # IndexError: there is none
            "report this as a bug: the zygote must start without environment",
        ),
        Probe(
            "memory",
            _tool(f"return len(bytearray({too_much}))"),
            frozenset({Outcome.MEMORY_LIMIT}),
            "use a kernel that enforces RLIMIT_AS",
        ),
        Probe(
            "output",
            _tool(f"print('x' * {limits.output_bytes + 1})"),
            frozenset({Outcome.OUTPUT_LIMIT}),
            "report this as a bug: printed output is not bounded",
        ),
        Probe(
            "loop",
            _tool("while True: pass"),
            frozenset({Outcome.TIMEOUT}),
            _FIX_KILL,
            _LOOP_DEADLINE_S,
        ),
    )


def _tool(body: str) -> str:
    return f"def run():\n    {body}\n"


def _raw_call(name: str, arguments: str) -> str:
    """Make one system call past every Python wrapper, so that only the kernel can stop it."""
    number = TABLES[machine()].killed[name]
    return f"import ctypes; return ctypes.CDLL(None).syscall({number}, {arguments})"


_HARMLESS = """
import json, zoneinfo
def run(a, b):
    zoneinfo.ZoneInfo('Asia/Tokyo')
    return json.dumps([a + b])
"""


async def run_probes(pool: _Pool, limits: SandboxLimits) -> tuple[ProbeResult, ...]:
    """Run the harmless tool, then every attack.

    Raises:
        SandboxUnavailable: Naming each probe that failed, what happened and how to mend it.
    """
    harmless = await pool.call(
        source=_HARMLESS, function="run", arguments={"a": 20, "b": 22}, deadline_s=_DEADLINE_S
    )
    if harmless.value != "[42]":
        raise SandboxUnavailable(
            f"a harmless tool does not work in the sandbox ({harmless.outcome}: {harmless.error}); "
            "remove the sandbox's rootfs-* folder so that it is built again"
        )
    probes = canary_probes(limits)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_attack(pool, probe)) for probe in probes]
    results = tuple(task.result() for task in tasks)
    failed = [
        f"probe {result.name!r} failed: {result.detail}; {probe.fix}"
        for probe, result in zip(probes, results, strict=True)
        if not result.is_passed
    ]
    if failed:
        raise SandboxUnavailable("the sandbox does not hold: " + " | ".join(failed))
    return results


async def _attack(pool: _Pool, probe: Probe) -> ProbeResult:
    for _ in range(_MAX_KILL_ATTEMPTS):
        result = await pool.call(
            source=probe.source, function="run", arguments={}, deadline_s=probe.deadline_s
        )
        # The processor time of a killed call is known once the worker has ended: without it the
        # kill failed, or the machine is so busy that another attempt is due.
        if result.outcome is not Outcome.TIMEOUT or result.cpu_s is not None:
            is_passed = result.outcome in probe.expected
            detail = f"{result.outcome}: {result.error or result.value!r}"[:300]
            return ProbeResult(probe.name, is_passed, detail)
    return ProbeResult(probe.name, False, "the timed-out worker could not be killed")
