"""Limits, Landlock attributes, launch commands, the code cache, verdicts and probes."""

import signal
import struct
import time
from pathlib import Path

import pytest

from services.toolenv.sandbox import (
    SandboxLimits,
    SandboxOutcome,
    SandboxResult,
    SandboxUnavailable,
)
from services.toolenv.sandbox.codecache import CodeCache
from services.toolenv.sandbox.policy import landlock_ruleset_attribute, landlock_write, profile_of
from services.toolenv.sandbox.probes import canary_probes, run_probes
from services.toolenv.sandbox.rootfs import RootFs
from services.toolenv.sandbox.tiers import launch_command, reserved_uid
from services.toolenv.sandbox.verdicts import judge_exit, judge_message
from services.toolenv.sandbox.workers import WorkerExit

LIMITS = SandboxLimits()
ROOTFS = RootFs(path=Path("/usr"), loader="/lib/ld.so", python="/usr/bin/python3")


def test_limits_survive_the_way_to_the_zygote():
    limits = SandboxLimits(cpu_s=3, wall_s=1.5)
    assert SandboxLimits.from_json(limits.to_json()) == limits


@pytest.mark.parametrize(
    ("field", "value"), [("memory_bytes", 1), ("cpu_s", 0), ("wall_s", 0.0), ("threads", 0)]
)
def test_a_limit_under_which_nothing_works_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r} is below the minimum of"):
        SandboxLimits(**{field: value})


def test_a_frame_too_small_for_its_contents_is_refused():
    with pytest.raises(ValueError, match="use at least 1445888"):
        SandboxLimits(frame_bytes=1 << 20)


@pytest.mark.parametrize(
    ("abi", "fields"),
    [
        (1, (0x1FFF,)),
        (2, (0x3FFF,)),
        (3, (0x7FFF,)),
        (4, (0x7FFF, 3)),
        (5, (0xFFFF, 3)),
        (6, (0xFFFF, 3, 3)),
        (7, (0xFFFF, 3, 3)),
    ],
)
def test_every_right_that_the_kernel_knows_is_handled(abi, fields):
    assert landlock_ruleset_attribute(abi) == struct.pack(f"<{len(fields)}Q", *fields)


def test_chroot_without_root_is_refused_with_the_alternative():
    with pytest.raises(SandboxUnavailable, match="use tier 'ns' or run as root"):
        launch_command(
            "chroot", rootfs=ROOTFS, control_descriptor=9, limits=LIMITS, dedicated_uid=None
        )


def test_a_root_host_gives_up_root_before_bubblewrap_starts():
    command = launch_command(
        "ns", rootfs=ROOTFS, control_descriptor=9, limits=LIMITS, dedicated_uid=64001
    )
    start = command.index("--reuid=64001")
    assert command[start + 1 : start + 3] == ["--regid=64001", "--clear-groups"]
    assert Path(command[start - 1]).name == "setpriv"


def test_bubblewrap_unshares_everything_and_shows_neither_proc_nor_dev():
    command = launch_command(
        "ns", rootfs=ROOTFS, control_descriptor=9, limits=LIMITS, dedicated_uid=None
    )
    assert {"--unshare-all", "--unshare-user", "--die-with-parent", "--clearenv"} <= set(command)
    assert not {"--proc", "--dev", "--bind", "--share-net", "--hostname"} & set(command)


def test_an_unreachable_tree_is_shown_in_a_private_mount_namespace(tmp_path):
    tmp_path.chmod(0o700)
    hidden = RootFs(path=tmp_path, loader="/lib/ld.so", python="/usr/bin/python3")
    command = launch_command(
        "ns", rootfs=hidden, control_descriptor=9, limits=LIMITS, dedicated_uid=64001
    )
    assert Path(command[0]).name == "unshare"
    assert command[1:4] == ["--mount", "--propagation", "private"]


def test_two_sandboxes_never_share_a_uid():
    with reserved_uid() as first, reserved_uid() as second:
        assert first != second
        assert min(first, second) >= 64001


@pytest.mark.parametrize("abi", [1, 2, 3, 7])
def test_the_private_tmpfs_grants_no_execution_and_nothing_the_kernel_does_not_handle(abi):
    (handled,) = struct.unpack_from("<Q", landlock_ruleset_attribute(abi))
    granted = landlock_write(abi)
    assert granted & ~handled == 0
    assert granted & 1 == 0


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "import json, requests\n",
        "def f():\n    from requests.auth import X",
        "import httpx as h",
        "import urllib.request",
        "from urllib import request",
        "import os; import http.client",
        "from http import client",
    ],
)
def test_a_source_that_imports_an_http_library_gets_the_web_profile(source):
    assert profile_of(source) == "web"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "import json",
        "# requests are welcome",
        "x = 'import'; requests = 1",
        "import urllib.parse",
    ],
)
def test_other_sources_get_the_lean_profile(source):
    assert profile_of(source) == "lean"


def test_a_long_source_is_scanned_fast():
    source = "import " + "a" * 200_000 + "\n" + "import x, " * 20_000
    started = time.perf_counter()
    assert profile_of(source) == "lean"
    assert time.perf_counter() - started < 1.0


def test_a_private_tmpfs_needs_the_namespace_tier():
    limits = SandboxLimits(scratch_bytes=1 << 20)
    with pytest.raises(SandboxUnavailable, match="scratch_bytes=1048576 needs tier 'ns'"):
        launch_command(
            "chroot", rootfs=ROOTFS, control_descriptor=3, limits=limits, dedicated_uid=64001
        )


@pytest.mark.parametrize(("scratch_bytes", "has_capability"), [(0, False), (1 << 20, True)])
def test_the_jail_keeps_one_capability_only_for_a_private_tmpfs(scratch_bytes, has_capability):
    command = launch_command(
        "ns",
        rootfs=ROOTFS,
        control_descriptor=3,
        limits=SandboxLimits(scratch_bytes=scratch_bytes),
        dedicated_uid=None,
    )
    assert ("CAP_SYS_ADMIN" in command) is has_capability


def test_the_cache_forgets_the_least_recently_used_entry():
    cache = CodeCache(max_entries=2)
    cache.put("a", "1")
    cache.put("b", "2")
    cache.get("a")
    cache.put("c", "3")
    assert [cache.get(key) for key in "abc"] == ["1", None, "3"]


def test_the_cache_is_bounded_in_characters_too():
    cache = CodeCache(max_entries=100)
    for number in range(5):
        cache.put(str(number), "x" * (20 << 20))
    assert len(cache) == 3


def test_sources_and_builds_have_their_own_cache_keys():
    keys = {CodeCache.key(source, build) for source in ("a", "b") for build in ("x", "y")}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (None, SandboxOutcome.UNAVAILABLE),
        (WorkerExit(signal.SIGSYS, 0.1), SandboxOutcome.VIOLATION),
        (WorkerExit(signal.SIGXCPU, 10.0), SandboxOutcome.CPU_LIMIT),
        (WorkerExit(signal.SIGKILL, 11.0), SandboxOutcome.CPU_LIMIT),
        (WorkerExit(signal.SIGKILL, 0.1), SandboxOutcome.CRASHED),
        (WorkerExit(signal.SIGSEGV, 0.1), SandboxOutcome.CRASHED),
        (WorkerExit(0, 0.1), SandboxOutcome.CRASHED),
        (WorkerExit(3 << 8, 0.1), SandboxOutcome.CRASHED),
    ],
)
def test_a_silent_end_has_a_meaning(end, outcome):
    verdict = judge_exit(end, LIMITS)
    assert verdict.outcome is outcome
    assert verdict.error


def _message(**changes: object) -> dict:
    honest = {"t": "result", "outcome": "ok", "value": 1, "error": "", "stdout": "", "cpu_s": 0.1}
    return {**honest, **changes}


def _judge(message: dict, *, frame_bytes: int = 100) -> SandboxResult:
    return judge_message(message, LIMITS, frame_bytes=frame_bytes)


def test_an_honest_message_becomes_its_result():
    result = _judge(_message(value=[1], stdout="hi"))
    assert (result.outcome, result.value, result.stdout) == (SandboxOutcome.OK, [1], "hi")


@pytest.mark.parametrize(
    "message",
    [
        {},
        _message(t="code"),
        _message(outcome="timeout"),
        _message(outcome="crashed"),
        _message(outcome=None),
        _message(outcome=[1]),
        _message(outcome={"a": 1}),
        _message(error=None),
        _message(stdout=["x"]),
        _message(extra=1),
    ],
)
def test_a_message_of_another_shape_is_a_protocol_error(message):
    assert _judge(message).outcome is SandboxOutcome.PROTOCOL_ERROR


def test_a_result_beyond_its_limit_is_a_protocol_error_although_the_frame_holds_it():
    limit = LIMITS.result_bytes
    fits, exceeds = _message(value="x" * (limit - 2)), _message(value="x" * (limit - 1))
    assert _judge(fits, frame_bytes=limit + 99).outcome is SandboxOutcome.OK
    assert _judge(exceeds, frame_bytes=limit + 99).outcome is SandboxOutcome.PROTOCOL_ERROR


def test_texts_longer_than_agreed_are_cut():
    result = _judge(_message(outcome="tool_error", error="e" * 9000, stdout="ü" * 90_000))
    assert (len(result.error), len(result.stdout)) == (2000, 32768)


@pytest.mark.parametrize("cpu_s", [None, "x", True, -1, 1e300, [1]])
def test_a_processor_time_that_cannot_be_is_unknown(cpu_s):
    assert _judge(_message(cpu_s=cpu_s)).cpu_s is None


def test_a_failed_call_carries_no_value():
    assert _judge(_message(outcome="violation", value="x")).value is None


class LeakyPool:
    """A pool that stops every attack but one, and runs harmless tools."""

    def __init__(self, *, leak: str = "", is_broken: bool = False, can_kill: bool = True) -> None:
        self._expected = {probe.source: probe for probe in canary_probes(LIMITS)}
        self._leak = leak
        self._is_broken = is_broken
        self._cpu_s = 0.1 if can_kill else None

    async def call(self, *, source, function, arguments, deadline_s):
        probe = self._expected.get(source)
        if probe is None:
            return self._result(SandboxOutcome.OK, None if self._is_broken else "[42]")
        if probe.name == self._leak:
            return self._result(SandboxOutcome.OK, "root:x:0:0")
        return self._result(next(iter(probe.expected)), None)

    def _result(self, outcome, value):
        return SandboxResult(outcome, value, "", "", latency_s=0.1, cpu_s=self._cpu_s)


@pytest.mark.anyio
async def test_a_pool_that_stops_every_attack_passes():
    results = await run_probes(LeakyPool(), LIMITS)
    assert len(results) >= 12
    assert all(result.is_passed for result in results)


@pytest.mark.anyio
@pytest.mark.parametrize("name", [probe.name for probe in canary_probes(LIMITS)])
async def test_one_attack_that_succeeds_refuses_the_sandbox_by_name(name):
    with pytest.raises(SandboxUnavailable, match=f"probe '{name}' failed: ok: 'root:x:0:0'; "):
        await run_probes(LeakyPool(leak=name), LIMITS)


@pytest.mark.anyio
async def test_a_sandbox_in_which_nothing_works_is_refused():
    with pytest.raises(SandboxUnavailable, match="a harmless tool does not work"):
        await run_probes(LeakyPool(is_broken=True), LIMITS)


@pytest.mark.anyio
async def test_workers_that_cannot_be_killed_refuse_the_sandbox_with_the_capability():
    with pytest.raises(SandboxUnavailable, match=r"probe 'loop' failed.*the capability KILL"):
        await run_probes(LeakyPool(can_kill=False), LIMITS)
