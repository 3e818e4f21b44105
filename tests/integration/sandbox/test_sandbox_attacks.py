"""Hostile tools: each ends in a typed outcome, and the next call is right."""

import asyncio

import pytest

from services.toolenv.sandbox import Sandbox, SandboxOutcome
from tests.integration.sandbox.processes import (
    POOL_SIZE,
    children,
    resident_bytes,
    wait_for_children,
)

pytestmark = pytest.mark.anyio

# Finds the worker's own connection, the only descriptor beyond 0-2, as a hostile tool would.
_WRITE_TO_HOST = (
    "import os, struct, json\n"
    "def send(data):\n"
    " for fd in range(3, 64):\n"
    "  try: return os.write(fd, data)\n"
    "  except OSError: pass\n"
    "def frame(body): send(struct.pack('<I', len(body)) + body)\n"
)


@pytest.fixture(autouse=True)
async def next_call_is_right(run_tool):
    yield
    result = await run_tool("def run(n): return n + 1", n=41)
    assert (result.outcome, result.value) == (SandboxOutcome.OK, 42)


def _raw(arguments: str) -> str:
    return f"import ctypes\ndef run(): return ctypes.CDLL(None).syscall({arguments})"


@pytest.mark.parametrize(
    "source",
    [
        "def run(): return open('/etc/passwd').read()",
        "def run(): return open('/etc/shadow').read()",
        "import os\ndef run(): return os.listdir('/root')",
        "import os\ndef run(): return os.listdir('/')",
        "import os\ndef run(): return os.listdir('/proc')",
        "def run(): return open('/proc/1/environ').read()",
        "def run(): return open('/dev/kvm').read()",
        "def run(): open('/tmp/x', 'w')",
        "def run(): open('/usr/x', 'w')",
        "import os\ndef run(): os.symlink('/etc/passwd', '/usr/x')",
        "import socket\ndef run(): socket.socket()",
        "import socket\ndef run(): socket.create_connection(('127.0.0.1', 80), 1)",
        "import socket\ndef run(): socket.socket(socket.AF_UNIX)",
        "import socket\ndef run(): socket.socketpair()",
        "import os\ndef run(): return os.fork()",
        "import subprocess\ndef run(): return subprocess.run(['/bin/sh', '-c', 'id'])",
        "import os\ndef run(): os.execv('/usr/bin/python3.11', ['x'])",
        "import os\ndef run(): os.kill(os.getppid(), 0)",
        "import os\ndef run(): os.kill(1, 9)",
        "import os\ndef run(): return os.memfd_create('x')",
        "import fcntl, os\ndef run(): fcntl.fcntl(os.pipe()[0], 8, os.getppid())",
        "import os\ndef run(): os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))",
        "import os\ndef run(): os.chmod('/usr', 0o777)",
    ],
)
async def test_a_forbidden_request_is_a_violation(run_tool, source):
    result = await run_tool(source)
    assert result.outcome is SandboxOutcome.VIOLATION


async def test_limits_cannot_be_raised(run_tool):
    source = "import resource\ndef run(): resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"
    result = await run_tool(source)
    assert result.outcome in {SandboxOutcome.VIOLATION, SandboxOutcome.TOOL_ERROR}


@pytest.mark.parametrize(
    "arguments",
    [
        "101, 0, 0, 0, 0",
        "105, 0",
        "161, b'/usr'",
        "165, b't', b'/usr', b'tmpfs', 0, 0",
        "272, 0x10020000",
        "308, 0, 0",
        "310, 1, 0, 0, 0, 0, 0",
        "321, 0, 0, 0",
        "323, 1",
        "425, 4, 0",
        "250, 0, -3, 0",
        "438, 3, 3, 0",
        "0x40000000 + 39",
    ],
    ids=[
        "ptrace",
        "setuid",
        "chroot",
        "mount",
        "unshare",
        "setns",
        "vm_readv",
        "bpf",
        "userfaultfd",
        "io_uring",
        "keyctl",
        "pidfd_getfd",
        "x32",
    ],
)
async def test_a_system_call_of_attackers_kills_the_worker(run_tool, arguments):
    result = await run_tool(_raw(arguments))
    assert result.outcome is SandboxOutcome.VIOLATION
    assert result.error == "the tool made a forbidden system call and was killed"


async def test_a_permission_error_that_the_tool_invents_is_not_a_violation(run_tool):
    result = await run_tool("def run(): raise PermissionError('members only')")
    assert result.outcome is SandboxOutcome.TOOL_ERROR


@pytest.mark.parametrize(
    "source",
    [
        "def run():\n while True: pass",
        "import time\ndef run(): time.sleep(1e6)",
        "def run(): return len(str(7 ** 10 ** 9))",
        "import signal\ndef run():\n"
        " for number in (1, 2, 14, 15, 24): signal.signal(number, signal.SIG_IGN)\n"
        " while True: pass",
    ],
    ids=["loop", "sleep", "c-level", "ignores-signals"],
)
async def test_a_call_without_end_is_killed_at_its_deadline(sandbox: Sandbox, run_tool, source):
    result = await run_tool(source, deadline_s=0.5)
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
    assert resident_bytes() - before < 10e6


async def test_a_print_in_small_pieces_is_cut_at_the_same_place(run_tool):
    result = await run_tool("def run():\n while True: print('0123456789abcde')")
    assert result.outcome is SandboxOutcome.OUTPUT_LIMIT
    assert result.stdout == "0123456789abcde\n" * 4096


async def test_output_that_just_fits_is_kept(run_tool):
    result = await run_tool("def run(): print('x' * 65535)")
    assert result.outcome is SandboxOutcome.OK
    assert len(result.stdout) == 65536


async def test_writing_to_the_raw_descriptors_goes_nowhere(run_tool):
    source = (
        "import os\ndef run():\n for _ in range(1024): os.write(1, b'x' * (1 << 20))\n return 1"
    )
    result = await run_tool(source)
    assert (result.outcome, result.stdout) == (SandboxOutcome.OK, "")


async def test_a_result_of_64_megabytes_is_refused(run_tool):
    before = resident_bytes()
    result = await run_tool("def run(): return 'x' * (64 << 20)")
    assert result.outcome is SandboxOutcome.OUTPUT_LIMIT
    assert resident_bytes() - before < 10e6


@pytest.mark.parametrize(
    "source",
    [
        "def run(): return len(bytearray(1 << 30))",
        "def run():\n x = []\n while True: x.append('y' * 100_000)",
        "def run():\n x = []\n while True: x.append([])",
    ],
    ids=["at-once", "piecewise", "tiny-pieces"],
)
async def test_one_gigabyte_of_memory_is_a_memory_limit(run_tool, source):
    result = await run_tool(source)
    assert result.outcome is SandboxOutcome.MEMORY_LIMIT


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
async def test_a_process_that_dies_is_a_crash(run_tool, source, error):
    result = await run_tool(source)
    assert result.outcome is SandboxOutcome.CRASHED
    assert error in result.error


async def test_unbounded_recursion_does_not_hurt(run_tool):
    source = "import sys\ndef run(n=0):\n sys.setrecursionlimit(10**9)\n return run(n + 1)"
    result = await run_tool(source, deadline_s=3.0)
    # Which of them depends on what CPython notices first: the stack, the memory or neither.
    assert result.outcome in {
        SandboxOutcome.CRASHED,
        SandboxOutcome.MEMORY_LIMIT,
        SandboxOutcome.TOOL_ERROR,
        SandboxOutcome.TIMEOUT,
    }


async def test_a_result_nested_too_deep_is_a_tool_error(run_tool):
    result = await run_tool("def run():\n x = []\n for _ in range(100_000): x = [x]\n return x")
    assert result.outcome is SandboxOutcome.TOOL_ERROR


@pytest.mark.parametrize(
    "attack",
    [
        r"send(b'\xff' * 64)",
        r"send(b'garbage, not a frame at all')",
        r"frame(b'{}')",
        r"frame(b'null')",
        r"frame(b'[1]')",
        r"frame(b'{\"t\":\"ready\"}')",
        r"frame(b'\xff\xfe')",
        r"frame(b'{\"t\":' + b'[' * 100000)",
        r"frame(b'{\"t\":' + b'[' * 500 + b']' * 500 + b'}')",
        r"frame(b'{\"t\":NaN}')",
        r"frame(b'{\"t\":1e999}')",
        r"frame(b'{\"t\":\"\\ud800\"}')",
        r"frame(b'{\"t\":' + b'9' * 100000 + b'}')",
        r"frame(json.dumps({'t': 'result', 'outcome': 'timeout', 'value': None, 'error': '',"
        r" 'stdout': '', 'cpu_s': 0}).encode())",
        r"frame(json.dumps({'t': 'result', 'outcome': 'ok', 'value': 1}).encode())",
        r"frame(json.dumps({'t': 'result', 'outcome': 'ok', 'value': 1, 'error': 5,"
        r" 'stdout': [], 'cpu_s': 'x'}).encode())",
        r"frame(json.dumps({'t': 'code', 'code': 'AAAA'}).encode())",
    ],
)
async def test_a_forged_frame_is_a_protocol_error(run_tool, attack):
    result = await run_tool(f"{_WRITE_TO_HOST}def run():\n {attack}\n while True: pass")
    assert result.outcome is SandboxOutcome.PROTOCOL_ERROR


async def test_half_a_frame_and_silence_ends_at_the_deadline(run_tool):
    source = f"{_WRITE_TO_HOST}import time\ndef run():\n send(b'\\x10')\n time.sleep(100)"
    result = await run_tool(source, deadline_s=0.5)
    assert result.outcome is SandboxOutcome.TIMEOUT


async def test_a_worker_that_spins_on_after_its_result_is_killed(sandbox: Sandbox, run_tool):
    source = (
        f"{_WRITE_TO_HOST}def run():\n"
        " frame(json.dumps({'t': 'result', 'outcome': 'ok', 'value': 'forged', 'error': '',"
        " 'stdout': '', 'cpu_s': 0.0}).encode())\n"
        " while True: pass\n"
    )
    await run_tool(source)  # compiled and cached, so that the forged frame is the first one
    result = await run_tool(source)
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


async def test_nobody_but_the_pool_lives_below_the_zygote(sandbox: Sandbox, run_tool):
    await run_tool("def run(): pass")
    await wait_for_children(sandbox.zygote_pid, POOL_SIZE)
    assert len(children(sandbox.zygote_pid)) == POOL_SIZE
