"""Opening, refusing, dying, restarting, queueing."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from services.toolenv.sandbox import (
    SandboxLimits,
    SandboxOutcome,
    SandboxUnavailable,
    open_sandbox,
)
from services.toolenv.sandbox.rootfs import prepare_rootfs
from tests.integration.sandbox.processes import children, exists, kill_and_wait, wait_for_children

pytestmark = pytest.mark.anyio

_ECHO = "def run(n): return n"
_SLEEP = "import time\ndef run(): time.sleep(60)"
_DEADLINE_S = 25.0


async def _echo(sandbox, n):
    result = await sandbox.call(
        source=_ECHO, function="run", arguments={"n": n}, deadline_s=_DEADLINE_S
    )
    return result.value


async def test_every_canary_attack_is_stopped_when_a_sandbox_opens(tier, sandbox_home):
    async with open_sandbox(home=sandbox_home, tier=tier) as sandbox:
        assert sandbox.tier == tier
        assert len(sandbox.probe_results) >= 12
        assert all(result.is_passed for result in sandbox.probe_results)


async def test_auto_chooses_namespaces_first(sandbox_home):
    async with open_sandbox(home=sandbox_home, probes=False) as sandbox:
        assert sandbox.tier == "ns"


async def test_a_killed_zygote_gives_typed_outcomes_and_is_replaced(tier, sandbox_home):
    async with open_sandbox(home=sandbox_home, tier=tier, probes=False) as sandbox:
        first = sandbox.zygote_pid
        call = asyncio.ensure_future(
            sandbox.call(source=_SLEEP, function="run", arguments={}, deadline_s=_DEADLINE_S)
        )
        await asyncio.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        interrupted = await asyncio.wait_for(call, 5)
        assert interrupted.outcome is SandboxOutcome.UNAVAILABLE
        assert "zygote died" in interrupted.error
        assert await _echo(sandbox, 42) == 42
        assert sandbox.is_alive()
        assert sandbox.zygote_pid not in {first, None}


async def test_zygotes_killed_again_and_again_are_replaced(tier, sandbox_home):
    async with open_sandbox(home=sandbox_home, tier=tier, probes=False) as sandbox:
        for round_number in range(3):
            await kill_and_wait(sandbox.zygote_pid)
            assert await _echo(sandbox, round_number) == round_number


async def test_a_worker_killed_from_outside_is_a_crash_and_harms_nobody(tier, sandbox_home):
    async with open_sandbox(home=sandbox_home, tier=tier, probes=False, pool_size=1) as sandbox:
        await _echo(sandbox, 0)
        call = asyncio.ensure_future(
            sandbox.call(source=_SLEEP, function="run", arguments={}, deadline_s=_DEADLINE_S)
        )
        await asyncio.sleep(0.3)
        for pid in children(sandbox.zygote_pid):
            os.kill(pid, signal.SIGKILL)
        assert (await asyncio.wait_for(call, 5)).outcome is SandboxOutcome.CRASHED
        await wait_for_children(sandbox.zygote_pid, 0)
        assert await _echo(sandbox, 42) == 42


async def test_closing_ends_every_process_and_the_calls_in_flight(tier, sandbox_home):
    async with open_sandbox(home=sandbox_home, tier=tier, probes=False) as sandbox:
        zygote = sandbox.zygote_pid
        workers = children(zygote)
        call = asyncio.ensure_future(
            sandbox.call(source=_SLEEP, function="run", arguments={}, deadline_s=_DEADLINE_S)
        )
        await asyncio.sleep(0.3)
        await sandbox.aclose()
        assert (await asyncio.wait_for(call, 5)).outcome is SandboxOutcome.UNAVAILABLE
        late = await sandbox.call(source=_ECHO, function="run", arguments={"n": 1}, deadline_s=9)
    assert (late.outcome, late.error) == (SandboxOutcome.UNAVAILABLE, "the sandbox is closed")
    assert not [pid for pid in (zygote, *workers) if exists(pid)]


async def test_a_full_queue_refuses_at_once_with_a_clear_text(tier, sandbox_home):
    limits = SandboxLimits(max_concurrent_calls=1, max_waiting_calls=1)
    async with open_sandbox(home=sandbox_home, tier=tier, limits=limits, probes=False) as sandbox:

        async def slow():
            return await sandbox.call(source=_SLEEP, function="run", arguments={}, deadline_s=1.0)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(slow()) for _ in range(3)]
        running, waiting, refused = [task.result() for task in tasks]
        assert running.outcome is SandboxOutcome.TIMEOUT
        assert waiting.outcome is SandboxOutcome.UNAVAILABLE
        assert refused.error == "1 calls run and 1 wait, the limit is 1; try again later"
        assert refused.latency_s < 0.5
        assert await _echo(sandbox, 42) == 42


async def test_a_cpu_limit_ends_a_busy_call_before_its_deadline(tier, sandbox_home):
    limits = SandboxLimits(cpu_s=1)
    async with open_sandbox(home=sandbox_home, tier=tier, limits=limits, probes=False) as sandbox:
        result = await sandbox.call(
            source="def run():\n while True: pass",
            function="run",
            arguments={},
            deadline_s=_DEADLINE_S,
        )
        assert result.outcome is SandboxOutcome.CPU_LIMIT
        assert result.cpu_s == pytest.approx(1.0, abs=0.3)


async def test_a_deadline_beyond_the_wall_limit_is_capped(tier, sandbox_home):
    limits = SandboxLimits(wall_s=0.5)
    async with open_sandbox(home=sandbox_home, tier=tier, limits=limits, probes=False) as sandbox:
        result = await sandbox.call(source=_SLEEP, function="run", arguments={}, deadline_s=1e9)
        assert result.outcome in {SandboxOutcome.TIMEOUT, SandboxOutcome.UNAVAILABLE}
        assert result.latency_s < 0.5 + 1.0


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_deadline_that_is_no_time_is_a_timeout(sandbox, deadline_s):
    result = await sandbox.call(
        source=_ECHO, function="run", arguments={"n": 1}, deadline_s=deadline_s
    )
    assert result.outcome is SandboxOutcome.TIMEOUT
    assert f"deadline_s={deadline_s!r}" in result.error


async def test_a_source_larger_than_a_frame_is_refused_with_the_limit(sandbox):
    result = await sandbox.call(
        source="#" * (3 << 20), function="run", arguments={}, deadline_s=_DEADLINE_S
    )
    assert result.outcome is SandboxOutcome.BAD_ARGUMENTS
    assert f"exceeds the limit of {2 << 20} bytes" in result.error


async def test_a_home_that_cannot_be_written_is_named_with_the_fix():
    with pytest.raises(SandboxUnavailable, match=r"'/proc/nowhere'.*choose a writable folder"):
        async with open_sandbox(home=Path("/proc/nowhere")):
            pytest.fail("a sandbox opened without a root file system")


@pytest.mark.parametrize("pool_size", [0, 65])
async def test_a_pool_size_out_of_range_is_refused(tmp_path, pool_size):
    with pytest.raises(ValueError, match=rf"pool_size={pool_size} is outside 1\.\.64"):
        async with open_sandbox(home=tmp_path, pool_size=pool_size):
            pytest.fail("the pool size was accepted")


def test_the_root_file_system_holds_no_setuid_file_and_nothing_writable(sandbox_home):
    root = prepare_rootfs(sandbox_home).path
    modes = [path.lstat().st_mode for path in root.rglob("*") if not path.is_symlink()]
    assert not [mode for mode in modes if mode & 0o6022]
    assert not [path for path in root.rglob("*") if path.is_symlink()]


def test_a_second_preparation_reuses_the_root_file_system(sandbox_home):
    first = prepare_rootfs(sandbox_home)
    built = first.path.stat().st_mtime_ns
    assert prepare_rootfs(sandbox_home) == first
    assert first.path.stat().st_mtime_ns == built
    assert [path.name for path in sandbox_home.iterdir()] == [first.path.name]
