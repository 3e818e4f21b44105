"""Shards, preloaded web workers, sets of packages, a private tmpfs."""

import asyncio
import os
import signal
from importlib import metadata
from pathlib import Path

import pytest

from services.toolenv.sandbox import (
    SandboxLimits,
    SandboxOutcome,
    SandboxUnavailable,
    open_sandbox,
)
from services.toolenv.sandbox.groups import MAX_LAZY_GROUPS
from tests.integration.sandbox.processes import children, wait_until

pytestmark = pytest.mark.anyio

_DEADLINE_S = 25.0
_PARENT = "import os, time\ndef run(s=0):\n    time.sleep(s)\n    return os.getppid()"
_WEB = """
import time
begun = time.perf_counter()
import requests, httpx, urllib.request
took_s = time.perf_counter() - begun
def run(): return [took_s, requests.__version__, httpx.__version__]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own, because these tests leave further trees behind."""
    folder = tmp_path_factory.mktemp("groups")
    folder.parent.chmod(0o700)
    return folder


async def _call(sandbox, source, **options):
    options = {"function": "run", "arguments": {}, "deadline_s": _DEADLINE_S} | options
    return await sandbox.call(source=source, **options)


def _pin(name: str) -> str:
    return f"{name}=={metadata.version(name)}"


async def test_calls_are_spread_over_the_shards(tier, home):
    async with open_sandbox(home=home, tier=tier, probes=False, zygotes=2, pool_size=2) as sandbox:
        assert len(set(sandbox.zygote_pids)) == 2
        before = [set(children(pid)) for pid in sandbox.zygote_pids]
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(_call(sandbox, _PARENT))
        await asyncio.sleep(0.1)
        after = [set(children(pid)) for pid in sandbox.zygote_pids]
        assert all(new - old for old, new in zip(before, after, strict=True))


async def test_a_killed_shard_ends_its_own_calls_only_and_comes_back(tier, home):
    async with open_sandbox(home=home, tier=tier, probes=False, zygotes=2, pool_size=2) as sandbox:
        victim, survivor = sandbox.zygote_pids
        calls = [
            asyncio.ensure_future(_call(sandbox, _PARENT, arguments={"s": 1.5})) for _ in range(4)
        ]
        await asyncio.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        outcomes = [(await call).outcome for call in calls]
        assert set(outcomes) == {SandboxOutcome.OK, SandboxOutcome.UNAVAILABLE}
        assert (await _call(sandbox, _PARENT)).outcome is SandboxOutcome.OK
        await wait_until(lambda: sandbox.zygote_pids[0] not in {victim, None}, 10.0)
        assert sandbox.zygote_pids[1] == survivor


async def test_http_libraries_are_there_at_once_in_a_warm_web_worker(tier, home):
    async with open_sandbox(home=home, tier=tier, probes=False) as sandbox:
        await _call(sandbox, _WEB)
        await asyncio.sleep(0.3)
        result = await _call(sandbox, _WEB)
        took_s, *versions = result.value
        assert took_s < 0.002
        assert versions == [metadata.version("requests"), metadata.version("httpx")]
        assert sandbox.groups == ("base/lean", "base/web")


async def test_the_scan_of_the_source_is_only_a_hint(tier, home):
    source = "import importlib\ndef run(): return importlib.import_module('requests').__version__"
    async with open_sandbox(home=home, tier=tier, probes=False) as sandbox:
        assert (await _call(sandbox, source)).value == metadata.version("requests")
        assert sandbox.groups == ("base/lean",)


async def test_a_tool_gets_the_packages_that_it_lists_and_no_others(tier, home):
    source = "import attr\ndef run(): return attr.__version__"
    async with open_sandbox(home=home, tier=tier, probes=False) as sandbox:
        given = await _call(sandbox, source, dependencies=(_pin("attrs"),))
        assert given.value == metadata.version("attrs")
        missing = await _call(sandbox, source)
        assert missing.error == "ModuleNotFoundError: No module named 'attr'"


async def test_a_requirement_that_cannot_be_met_says_so(sandbox):
    result = await _call(sandbox, "def run(): pass", dependencies=("attrs==0.0.1",))
    assert result.outcome is SandboxOutcome.UNAVAILABLE
    assert f"write {_pin('attrs')}" in result.error


async def test_the_group_used_longest_ago_makes_room(home):
    names = ("attrs", "PyYAML", "jsonschema", "structlog", "docstring-parser")
    assert len(names) > MAX_LAZY_GROUPS
    async with open_sandbox(home=home, tier="ns", probes=False, pool_size=1) as sandbox:
        for name in names:
            result = await _call(sandbox, "def run(): return 1", dependencies=(_pin(name),))
            assert result.value == 1, result.error
            await asyncio.sleep(0.2)
        assert len(sandbox.groups) == 1 + MAX_LAZY_GROUPS


async def test_site_packages_cannot_be_written(tier, home):
    source = "import requests\ndef run(): return open(requests.__file__, 'a').write('#')"
    async with open_sandbox(home=home, tier=tier, probes=False) as sandbox:
        result = await _call(sandbox, source)
        assert result.outcome is SandboxOutcome.VIOLATION


_SCRATCH = """
import os, tempfile
def run():
    folder = '/w/tmp'
    found = os.listdir(folder)
    with open(folder + '/a', 'w') as f: f.write('x' * 1000)
    os.mkdir(folder + '/d'); os.rename(folder + '/a', folder + '/d/b')
    return [found, open(folder + '/d/b').read() == 'x' * 1000, tempfile.gettempdir()]
"""


async def test_a_private_tmpfs_is_empty_writable_and_gone_afterwards(home):
    limits = SandboxLimits(scratch_bytes=16 << 20)
    async with open_sandbox(home=home, tier="ns", limits=limits) as sandbox:
        for _ in range(3):
            result = await _call(sandbox, _SCRATCH)
            assert result.value == [[], True, "/w/tmp"], result.error


@pytest.mark.parametrize(
    "body",
    [
        "for i in range(17): open(f'/w/tmp/{i}', 'wb').write(bytes(1 << 20))",
        "for i in range(2000): open(f'/w/tmp/{i}', 'w').close()",
        "open('/w/tmp/big', 'wb').write(bytes(9 << 20))",
        "open('/w/other', 'w')",
        "os.symlink('/etc', '/w/tmp/l')",
        "os.mkfifo('/w/tmp/f')",
    ],
)
async def test_a_private_tmpfs_is_bounded_and_nothing_else_is_writable(home, body):
    limits = SandboxLimits(scratch_bytes=16 << 20)
    async with open_sandbox(home=home, tier="ns", limits=limits, probes=False) as sandbox:
        result = await _call(sandbox, f"import os\ndef run():\n    {body}\n    return 'ESCAPED'")
        assert result.outcome is not SandboxOutcome.OK


async def test_a_private_tmpfs_in_the_chroot_tier_is_refused(home):
    limits = SandboxLimits(scratch_bytes=16 << 20)
    with pytest.raises(SandboxUnavailable, match="needs tier 'ns'"):
        async with open_sandbox(home=home, tier="chroot", limits=limits):
            pytest.fail("a tmpfs without a mount namespace")


async def test_the_sandbox_says_how_its_pool_is_grouped(sandbox):
    assert sandbox.cgroup_mode in {"none", "v1", "v2"}
