"""What exactly happens at a limit: what is kept, what is told, what is gone afterwards."""

import asyncio

import pytest

from services.toolenv.sandbox import (
    Sandbox,
    SandboxLimits,
    SandboxOutcome,
    SandboxResult,
    open_sandbox,
)
from services.toolenv.sandbox.cgroups import open_cgroup
from tests.integration.sandbox.attacks.attack import tool
from tests.integration.sandbox.processes import (
    POOL_SIZE,
    children,
    longest_stall_s,
    oom_score_adjustment,
    resident_bytes,
    wait_for_children,
)

pytestmark = pytest.mark.anyio

_HOST_GROWTH_BYTES = 10e6
_STALL_S = 0.25  # of the host's event loop; a busy machine adds to what the attack causes


@pytest.fixture(autouse=True)
async def next_call_is_right(run_tool):
    yield
    result = await run_tool("def run(n): return n + 1", n=41)
    assert (result.outcome, result.value) == (SandboxOutcome.OK, 42)


async def test_a_permission_error_that_the_tool_invents_is_not_a_violation(run_tool):
    result = await run_tool("def run(): raise PermissionError('members only')")
    assert result.outcome is SandboxOutcome.TOOL_ERROR


async def test_a_forbidden_system_call_is_named_as_the_cause_of_death(run_tool):
    result = await run_tool("import ctypes\ndef run(): ctypes.CDLL(None).syscall(101, 0, 0, 0, 0)")
    assert result.outcome is SandboxOutcome.VIOLATION
    assert result.error == "the tool made a forbidden system call and was killed"


async def test_a_call_is_killed_at_its_deadline_and_its_processor_time_is_known(
    sandbox: Sandbox, run_tool
):
    result = await run_tool("def run():\n while True: pass", deadline_s=0.5)
    assert result.outcome is SandboxOutcome.TIMEOUT
    assert result.latency_s < 0.5 + 1.0
    # The processor time comes from wait4, so the worker is gone by now.
    assert result.cpu_s is not None
    await wait_for_children(sandbox.zygote_pid, POOL_SIZE)


async def test_one_gigabyte_of_print_keeps_the_first_64_kilobytes(run_tool):
    await run_tool("def run(): pass")
    before = resident_bytes()
    source = "def run():\n for i in range(1024): print(i, 'x' * (1 << 20))"
    result = await run_tool(source)
    assert result.outcome is SandboxOutcome.OUTPUT_LIMIT
    assert result.stdout == "0 " + "x" * (65536 - 2)
    assert resident_bytes() - before < _HOST_GROWTH_BYTES


async def test_a_print_in_small_pieces_is_cut_at_the_same_place(run_tool):
    result = await run_tool("def run():\n while True: print('0123456789abcde')")
    assert result.outcome is SandboxOutcome.OUTPUT_LIMIT
    assert result.stdout == "0123456789abcde\n" * 4096


async def test_output_that_just_fits_is_kept(run_tool):
    result = await run_tool("def run(): print('x' * 65535)")
    assert result.outcome is SandboxOutcome.OK
    assert len(result.stdout) == 65536


async def test_writing_to_the_raw_descriptors_goes_nowhere(run_tool):
    result = await run_tool("import os\ndef run(): return os.write(1, b'x' * 1000)")
    assert (result.outcome, result.value, result.stdout) == (SandboxOutcome.OK, 1000, "")


async def test_a_result_of_64_megabytes_does_not_reach_the_host(run_tool):
    before = resident_bytes()
    result = await run_tool("def run(): return 'x' * (64 << 20)")
    assert result.outcome is SandboxOutcome.OUTPUT_LIMIT
    assert resident_bytes() - before < _HOST_GROWTH_BYTES


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import os\ndef run(): os._exit(0)", "exited with status 0"),
        ("import os\ndef run(): os._exit(9)", "exited with status 9"),
        ("import ctypes\ndef run(): ctypes.string_at(0)", "died of SIGSEGV"),
        ("import os\ndef run(): os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import os\ndef run(): os.abort()", "died of SIGABRT"),
    ],
)
async def test_a_process_that_dies_says_of_what(run_tool, source, error):
    result = await run_tool(source)
    assert result.outcome is SandboxOutcome.CRASHED
    assert error in result.error


async def test_a_worker_that_spins_on_after_its_result_is_killed(sandbox: Sandbox, run_tool):
    source = tool("result_frame()\nwhile True: pass")
    result = await run_tool(source, canary={})
    assert result.value == "forged"
    await wait_for_children(sandbox.zygote_pid, POOL_SIZE)


async def test_a_cancelled_call_leaves_no_worker_behind(sandbox: Sandbox, run_tool):
    call = asyncio.ensure_future(run_tool("def run():\n while True: pass"))
    await asyncio.sleep(0.3)
    call.cancel()
    await asyncio.wait([call], timeout=5)
    assert call.cancelled()
    await wait_for_children(sandbox.zygote_pid, POOL_SIZE)


async def test_eight_attacks_at_once_do_not_disturb_honest_calls(run_tool):
    attacks = ["def run():\n while True: pass", "import os\ndef run(): os._exit(1)"] * 4
    async with asyncio.TaskGroup() as group:
        hostile = [group.create_task(run_tool(source, deadline_s=1.0)) for source in attacks]
        honest = [group.create_task(run_tool("def run(n): return n", n=n)) for n in range(8)]
    assert [task.result().value for task in honest] == list(range(8))
    assert {task.result().outcome for task in hostile} <= {
        SandboxOutcome.TIMEOUT,
        SandboxOutcome.CRASHED,
        SandboxOutcome.UNAVAILABLE,  # its second passed while it waited for a worker
    }


@pytest.mark.parametrize(
    "body",
    [
        # Each read of the host finds one byte, so a host that reads on without a pause starves.
        "send(struct.pack('<I', 1900000))\nfd = channels()[0]\nw = os.write\n"
        "while True: w(fd, b' ')",
        "frame(b'{\"t\":\"result\",\"value\":[' + b'1e1,' * 490000 + b'1]}')\nsilent()",
        "frame(b'{\"t\":\"result\",\"value\":[' + b'[],' * 690000 + b'1]}')\nsilent()",
        'frame(b\'{"t":"result","value":[\' + b\'{"a":0},\' * 240000 + b\'1]}\')\nsilent()',
        "frame(b'{\"t\":\"result\",\"value\":[' + b'9' * 4300 + (b',' + b'9' * 4300) * 450"
        " + b']}')\nsilent()",
        "frame(b'\"' + b'\\\\u0041' * 330000 + b'\"')\nsilent()",
        # A regular expression for texts tries anew at each quote of a text that never ends.
        "frame(b'{\"t\":' + b'[]' * 101 + b'\"' + b'\\\\\"' * 16000)\nsilent()",
    ],
    ids=["drip", "floats", "lists", "objects", "digits", "escapes", "open-text"],
)
async def test_no_frame_holds_the_host_up(run_tool, body):
    async with longest_stall_s() as stall:
        result = await run_tool(tool(body), deadline_s=3.0, canary={})
    assert result.outcome in {
        SandboxOutcome.PROTOCOL_ERROR,
        SandboxOutcome.OUTPUT_LIMIT,
        SandboxOutcome.TIMEOUT,
    }
    assert stall.longest_s < _STALL_S


async def test_threads_are_shared_and_a_call_that_finds_none_is_told_so_and_the_next_has_them(
    run_tool,
):
    # The kernel counts threads by uid, which the workers of one zygote share: a documented limit.
    hog = tool(
        """
        threading.stack_size(32768)
        try:
            while True: threading.Thread(target=silent, daemon=True).start()
        except RuntimeError:
            time.sleep(0.9)
        """
    )
    honest = (
        "import threading\ndef run():\n"
        " threads = [threading.Thread(target=int) for _ in range(8)]\n"
        " [t.start() for t in threads]; [t.join() for t in threads]\n return 'done'\n"
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(run_tool(hog, canary={}))
        await asyncio.sleep(0.7)
        starved = await run_tool(honest)
    assert starved.outcome in (SandboxOutcome.OK, SandboxOutcome.TOOL_ERROR)
    assert starved.value == "done" or "thread" in starved.error
    assert (await run_tool(honest)).value == "done"


async def test_the_kernel_would_end_workers_before_the_host_when_memory_is_short(
    sandbox: Sandbox, run_tool
):
    await run_tool("def run(): pass")
    await wait_for_children(sandbox.zygote_pid, POOL_SIZE)
    workers = children(sandbox.zygote_pid)
    assert min(map(oom_score_adjustment, workers)) > oom_score_adjustment("self")


@pytest.mark.skipif(
    open_cgroup(memory_bytes=1 << 30, pids=64).mode == "none",
    reason="no cgroup can be made here: runs where the hierarchy is writable",
)
async def test_eight_calls_that_take_400_megabytes_each_are_held_within_700(tier, sandbox_home):
    limits = SandboxLimits(pool_memory_bytes=700 << 20)
    greedy = (
        "def run():\n block = bytearray(400 << 20)\n"
        " block[::4096] = b'x' * len(block[::4096])\n return len(block)\n"
    )
    async with open_sandbox(home=sandbox_home, tier=tier, limits=limits, probes=False) as sandbox:

        async def call(source: str) -> SandboxResult:
            return await sandbox.call(source=source, function="run", arguments={}, deadline_s=25.0)

        await call("def run(): pass")
        zygote = sandbox.zygote_pid
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call(greedy)) for _ in range(8)]
        outcomes = [task.result().outcome for task in tasks]
        assert set(outcomes) <= {SandboxOutcome.OK, SandboxOutcome.CRASHED}
        assert SandboxOutcome.CRASHED in outcomes
        assert (await call("def run(): return 42")).value == 42
        assert sandbox.zygote_pid == zygote


async def test_nobody_but_the_pool_lives_below_the_zygote(sandbox: Sandbox, run_tool):
    await run_tool("def run(): pass")
    await wait_for_children(sandbox.zygote_pid, POOL_SIZE)
    assert len(children(sandbox.zygote_pid)) == POOL_SIZE
