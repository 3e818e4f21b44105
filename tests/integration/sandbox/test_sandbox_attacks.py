"""Every attack of the acceptance list, in both tiers: typed outcome, no effect, service alive."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.toolenv.sandbox import Sandbox, open_sandbox
from tests.integration.sandbox.attack_run import AttackReport, limits_for, run_attacks
from tests.integration.sandbox.attacks.table import ATTACKS
from tests.integration.sandbox.canaries import planted
from tests.integration.sandbox.processes import (
    POOL_SIZE,
    children,
    command_name,
    open_descriptors,
    processes_of_uid,
    wait_for_children,
    wait_until,
)

pytestmark = pytest.mark.anyio

_TABLE_TIMEOUT_S = 100.0
_MIN_ATTACKS = 85


@dataclass
class Aftermath:
    """What the whole table left behind."""

    reports: dict[str, AttackReport]
    sandbox: Sandbox
    descriptors_more: int
    tree_before: list[tuple[str, int, int]]
    tree_after: list[tuple[str, int, int]]


def _tree(folder: Path) -> list[tuple[str, int, int]]:
    entries = ((path, path.lstat()) for path in sorted(folder.rglob("*")))
    return [(str(path), state.st_mode, state.st_mtime_ns) for path, state in entries]


@pytest.fixture(scope="module")
async def aftermath(tier: str, sandbox_home: Path, anyio_backend: str) -> AsyncIterator[Aftermath]:
    """The table runs once per tier, because its attacks run side by side."""
    with planted() as canaries:
        async with open_sandbox(
            home=sandbox_home, tier=tier, limits=limits_for(tier), pool_size=POOL_SIZE, probes=False
        ) as sandbox:
            for source in ("def run(): pass", "import requests\ndef run(): pass"):
                await sandbox.call(source=source, function="run", arguments={}, deadline_s=20.0)
            await wait_for_children(sandbox.zygote_pid, POOL_SIZE)
            before, tree = open_descriptors(), _tree(sandbox_home)
            async with asyncio.timeout(_TABLE_TIMEOUT_S):
                reports = await run_attacks(sandbox, canaries)
            await wait_for_children(sandbox.zygote_pid, POOL_SIZE, 5.0)
            yield Aftermath(
                reports, sandbox, open_descriptors() - before, tree, _tree(sandbox_home)
            )


def test_the_table_covers_every_group_and_names_each_attack_once():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= _MIN_ATTACKS
    groups = {attack.group for attack in ATTACKS}
    assert groups == {"FS", "ENV", "NET", "RES", "PRIV", "SYS", "STATE", "PROTOCOL"}


@pytest.mark.parametrize("name", [attack.name for attack in ATTACKS])
async def test_an_attack_is_stopped(aftermath: Aftermath, name: str):
    report = aftermath.reports[name]
    assert report.problems == (), f"{report.outcome}: {report.detail}"


async def test_the_service_is_alive_after_all_attacks(aftermath: Aftermath):
    assert aftermath.sandbox.is_alive()
    assert len(children(aftermath.sandbox.zygote_pid)) == POOL_SIZE


async def test_the_attacks_leak_no_descriptor_of_the_host(aftermath: Aftermath):
    # Two per worker that is being forked just now; a leak would be one per attack.
    assert aftermath.descriptors_more <= 2 * POOL_SIZE


async def test_the_attacks_changed_nothing_in_the_root_file_system(aftermath: Aftermath):
    assert aftermath.tree_after == aftermath.tree_before


async def test_the_attacks_left_no_process_of_the_sandbox_user(aftermath: Aftermath, run_in):
    uid = await run_in(aftermath.sandbox, "import os\ndef run(): return os.getuid()")
    zygote = aftermath.sandbox.zygote_pid

    def strangers() -> list[int]:
        known = {zygote, *children(zygote)}
        return [pid for pid in processes_of_uid(uid) - known if command_name(pid) != "bwrap"]

    await wait_until(lambda: not strangers(), 5.0)
    assert strangers() == []
