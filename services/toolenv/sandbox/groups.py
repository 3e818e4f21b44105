"""Pools by what tools import: plain, web, and one for each further set of packages.

The plain pool is always there and forks fastest. The others start with the first call that needs
them; beyond a bound the one that was used longest ago goes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import structlog

from services.toolenv.sandbox.policy import Profile
from services.toolenv.sandbox.pool import WorkerPool
from services.toolenv.sandbox.results import SandboxUnavailable
from services.toolenv.sandbox.rootfs import held, prepare_rootfs
from services.toolenv.sandbox.shard import ZygotePlan
from services.toolenv.sandbox.sites import DependencySet, resolve_dependencies

log = structlog.get_logger(__name__)

MAX_LAZY_GROUPS = 4
_BASE = "base"


class GroupKey(NamedTuple):
    """Which packages, and what is preloaded."""

    site: str
    profile: Profile


@dataclass(slots=True)
class _Group:
    pool: WorkerPool
    holds: ExitStack  # keeps the root file system from being removed

    async def aclose(self) -> None:
        try:
            await self.pool.aclose()
        finally:
            self.holds.close()


class PoolGroups:
    """All pools of one sandbox; for use on one event loop."""

    def __init__(self, plan: ZygotePlan, *, home: Path, zygotes: int, pool_size: int) -> None:
        self._plan = plan
        self._home = home
        self._zygotes = zygotes
        self._pool_size = pool_size
        self.plain = WorkerPool(plan, shards=zygotes, pool_size=pool_size)
        self._lazy: OrderedDict[GroupKey, asyncio.Task[_Group]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def alive(self) -> tuple[str, ...]:
        """Names of the running groups, as "base/web"."""
        done = (key for key, task in self._lazy.items() if _is_usable(task))
        return (f"{_BASE}/lean", *(f"{key.site}/{key.profile}" for key in done))

    async def pool_for(self, profile: Profile, dependencies: tuple[str, ...]) -> WorkerPool:
        """The pool for a call, started when it is the first of its kind.

        Raises:
            DependencyError: A dependency line cannot be met.
            SandboxUnavailable: The pool does not start, or too many others are busy.
        """
        if profile == "lean" and not dependencies:
            return self.plain
        wanted = resolve_dependencies(dependencies)
        if wanted.name == _BASE and profile == "lean":
            return self.plain
        key = GroupKey(wanted.name, "web")
        task = self._lazy.get(key)
        if task is None or (task.done() and not _is_usable(task)):
            self._make_room()
            task = asyncio.create_task(self._start(key, wanted), name="sandbox-group")
            self._lazy[key] = task
        self._lazy.move_to_end(key)
        group = await asyncio.shield(task)
        return group.pool

    async def aclose(self) -> None:
        """End every pool; safe to repeat."""
        self._is_closed = True
        tasks = list(self._lazy.values())
        self._lazy.clear()
        for task in tasks:
            self._retire(task)
        await self.plain.aclose()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _start(self, key: GroupKey, wanted: DependencySet) -> _Group:
        with ExitStack() as stack:
            rootfs = await asyncio.to_thread(prepare_rootfs, self._home, wanted)
            stack.enter_context(held(rootfs))
            plan = replace(self._plan, rootfs=rootfs, profile=key.profile)
            shards = self._zygotes if key.site == _BASE else 1
            pool = WorkerPool(plan, shards=shards, pool_size=self._pool_size)
            await pool.start()
            log.info("sandbox_group_started", site=key.site, profile=key.profile)
            return _Group(pool, stack.pop_all())

    def _make_room(self) -> None:
        if self._is_closed:
            raise SandboxUnavailable("the sandbox is closed")
        while len(self._lazy) >= MAX_LAZY_GROUPS:
            victim = next((k for k, task in self._lazy.items() if _is_idle(task)), None)
            if victim is None:
                raise SandboxUnavailable(
                    f"{MAX_LAZY_GROUPS} dependency sets are in use at the same time, which is the "
                    "limit; try again later"
                )
            self._retire(self._lazy.pop(victim))

    def _retire(self, task: asyncio.Task[_Group]) -> None:
        closing = asyncio.create_task(_close(task), name="sandbox-group-closing")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _close(task: asyncio.Task[_Group]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    if _is_usable(task):
        await task.result().aclose()


def _is_usable(task: asyncio.Task[_Group]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _is_idle(task: asyncio.Task[_Group]) -> bool:
    """Whether nobody waits for the group and no call uses it; failed ones count as idle."""
    return task.done() and not (_is_usable(task) and task.result().pool.busy)
