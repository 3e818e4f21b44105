"""A host that is killed at any moment leaves no process, and no files that pile up."""

import contextlib
import ctypes
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.toolenv.sandbox import SandboxOutcome, open_sandbox
from tests.integration.sandbox.children import ENVIRONMENT, ROOT
from tests.integration.sandbox.processes import children

pytestmark = pytest.mark.anyio

_PR_SET_CHILD_SUBREAPER = 36
_KILLS = 10  # in each tier
_KILLS_WHILE_BUILDING = 3
_READY_TIMEOUT_S = 30.0
_GONE_TIMEOUT_S = 5.0
_HOST = """
import asyncio, sys
from pathlib import Path
from services.toolenv.sandbox import open_sandbox
SLEEP = "import time\\ndef run(): time.sleep(60)"
LOOP = "def run():\\n while True: pass"
QUICK = "def run(): return 1"
async def main():
    print("started", flush=True)
    async with open_sandbox(home=Path(sys.argv[1]), tier=sys.argv[2], pool_size=3,
                            probes=False) as sandbox:
        print("open", flush=True)
        async def busy(source):
            while True:
                await sandbox.call(source=source, function="run", arguments={}, deadline_s=9)
        async with asyncio.TaskGroup() as group:
            for source in (SLEEP, LOOP, QUICK, QUICK):
                group.create_task(busy(source))
asyncio.run(main())
"""


@pytest.fixture
def orphans_come_here() -> Iterator[set[int]]:
    """Make this process the parent of whatever its children leave behind."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield set(children(os.getpid()))
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _kill_host(home: Path, tier: str, *, after: str, pause_s: float) -> None:
    """Start a host, wait for its word `after` and a moment more, and kill it."""
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST, str(home), tier],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert host.stdout is not None
    with contextlib.closing(host.stdout) as words:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while words.readline().strip() != after:
            assert time.monotonic() < deadline
            assert host.poll() is None
        time.sleep(pause_s)
        host.kill()
        host.wait(10)


def _wait_until_gone(before: set[int]) -> set[int]:
    """Reap orphans until none is left or the time is up; returns those that live on."""
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while True:
        left = set(children(os.getpid())) - before
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


def test_twenty_killed_hosts_leave_no_process(tier, sandbox_home, orphans_come_here):
    moments = random.Random(7)
    for number in range(_KILLS):
        after = "started" if number % 3 == 0 else "open"
        _kill_host(sandbox_home, tier, after=after, pause_s=moments.uniform(0, 0.5))
        left = _wait_until_gone(orphans_come_here)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]


async def test_hosts_killed_while_they_build_leave_nothing_that_stays(tmp_path, orphans_come_here):
    home = tmp_path / "home"
    for pause_s in (0.1, 0.4, 0.8)[:_KILLS_WHILE_BUILDING]:
        _kill_host(home, "ns", after="started", pause_s=pause_s)
    async with open_sandbox(home=home, tier="ns", probes=False, pool_size=1) as sandbox:
        result = await sandbox.call(
            source="def run(): return 1", function="run", arguments={}, deadline_s=25.0
        )
    assert (result.outcome, result.value) == (SandboxOutcome.OK, 1)
    left = [p for p in home.iterdir() if not p.name.startswith("rootfs-") and p.is_dir()]
    assert left == []
    assert len([p for p in home.iterdir() if p.name.startswith("rootfs-")]) == 1
    assert not _wait_until_gone(orphans_come_here)
