"""One zygote that is replaced when it dies, and the workers it forked ahead of demand."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from os import geteuid

import structlog

from services.toolenv.sandbox.cgroups import PoolCgroup
from services.toolenv.sandbox.control import Zygote
from services.toolenv.sandbox.policy import Profile, SandboxLimits
from services.toolenv.sandbox.results import SandboxUnavailable
from services.toolenv.sandbox.rootfs import RootFs
from services.toolenv.sandbox.tiers import Tier, reserved_uid
from services.toolenv.sandbox.workers import Worker

log = structlog.get_logger(__name__)

_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.1, 5.0
_STABLE_S = 10.0  # a zygote that lived this long died of something new: start again without delay
_PROBE_AFTER_LOSSES = (
    3  # workers lost before their job, after which the zygote must prove that it works
)
_PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ZygotePlan:
    """What every zygote of a sandbox has in common, and what it preloads."""

    tier: Tier
    rootfs: RootFs
    limits: SandboxLimits
    profile: Profile = "lean"
    cgroup: PoolCgroup | None = None


class Shard:
    """Hands out one-shot workers; `last_failure` says why there are none, if so.

    Each shard has a uid of its own, because the kernel counts threads by uid.
    """

    def __init__(self, plan: ZygotePlan, *, idle_workers: int) -> None:
        self.last_failure = ""
        self._plan = plan
        self._idle_workers = idle_workers
        self._uid = ExitStack()
        self._dedicated_uid: int | None = None
        self._zygote: Zygote | None = None
        self._idle: deque[Worker] = deque()
        self._is_up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._losses = 0
        self._probe: asyncio.Task[None] | None = None

    @property
    def zygote(self) -> Zygote | None:
        """The running zygote, None while there is none."""
        return self._zygote

    @property
    def is_up(self) -> bool:
        """Whether a zygote is up, as far as known."""
        return self._is_up.is_set() and self._zygote is not None and not self._zygote.died.done()

    @property
    def idle(self) -> int:
        """Workers waiting for a call."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Workers that were handed out and have not ended."""
        return 0 if self._zygote is None else self._zygote.worker_count - len(self._idle)

    async def start(self) -> Zygote:
        """Bring the first zygote up and keep one up from then on.

        Raises:
            SandboxUnavailable: It does not start.
        """
        if geteuid() == 0:
            self._dedicated_uid = self._uid.enter_context(reserved_uid())
        try:
            zygote = await self._start_zygote()
        except BaseException:
            self._uid.close()
            raise
        self._adopt(zygote)
        # Not a TaskGroup: it would wrap every exception of the sandbox's user. `aclose` ends it.
        self._keeper = asyncio.create_task(self._keep_up(), name="sandbox-keeper")
        return zygote

    async def wait_until_up(self) -> None:
        """Return when there is a zygote; the caller has the deadline."""
        await self._is_up.wait()
        if not self.is_up:
            self._is_up.clear()  # until the keeper has brought up another one

    def take_idle(self) -> Worker | None:
        """A worker that was forked ahead of demand, if there is one."""
        while self._idle:
            worker = self._idle.popleft()
            if not worker.ended.done():
                return worker
            worker.close()
        return None

    def spawn(self) -> Worker | None:
        """Order a worker now; None without zygote."""
        if self._zygote is None or not self.is_up:
            return None
        worker = self._zygote.spawn()
        worker.origin = self
        return worker

    def refill(self) -> None:
        """Order workers until there are enough again."""
        while len(self._idle) < self._idle_workers:
            worker = self.spawn()
            if worker is None:
                return
            self._idle.append(worker)

    def note_loss(self) -> None:
        """Hear that a worker was lost before its job; several in a row lead to a probe."""
        self._losses += 1
        is_probing = self._probe is not None and not self._probe.done()
        if self._losses >= _PROBE_AFTER_LOSSES and not is_probing:
            self._probe = asyncio.create_task(self._prove_alive(), name="sandbox-liveness")

    async def aclose(self) -> None:
        """Kill every worker and the zygote; safe to repeat."""
        tasks = [task for task in (self._keeper, self._probe) if task is not None]
        self._keeper = self._probe = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._zygote is not None:
            await self._bury(self._zygote)
        self._uid.close()

    async def _start_zygote(self) -> Zygote:
        plan = self._plan
        zygote = await Zygote.start(
            plan.tier,
            rootfs=plan.rootfs,
            limits=plan.limits,
            profile=plan.profile,
            dedicated_uid=self._dedicated_uid,
        )
        if plan.cgroup is not None and zygote.pid is not None:
            plan.cgroup.attach(zygote.pid)
        return zygote

    def _adopt(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._losses = 0
        self._is_up.set()
        self.refill()

    async def _prove_alive(self) -> None:
        """Kill a zygote that cannot produce a worker in time; the keeper starts another one."""
        zygote = self._zygote
        if zygote is None:
            return
        worker = zygote.spawn()
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await worker.wait_until_ready()
            self._losses = 0
        except Exception as error:  # noqa: BLE001  # whatever it is: this zygote does not work
            log.warning("sandbox_zygote_useless", tier=self._plan.tier, error=repr(error))
            zygote.kill()
        finally:
            worker.close()

    async def _keep_up(self) -> None:
        """Replace a zygote that died, slower and slower while that does not help."""
        loop = asyncio.get_running_loop()
        backoff_s = _FIRST_BACKOFF_S
        while True:
            born = loop.time()
            zygote = self._zygote
            if zygote is not None:
                await asyncio.shield(zygote.died)
                lived_s = round(loop.time() - born, 3)
                log.warning("sandbox_zygote_died", tier=self._plan.tier, lived_s=lived_s)
                await self._bury(zygote)
            if loop.time() - born > _STABLE_S:
                backoff_s = _FIRST_BACKOFF_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
            try:
                self._adopt(await self._start_zygote())
                self.last_failure = ""
            except (SandboxUnavailable, OSError, ValueError) as error:
                self.last_failure = f"the sandbox could not be restarted: {error}"
                log.error(
                    "sandbox_restart_failed",
                    tier=self._plan.tier,
                    error=str(error),
                    next_try_s=backoff_s,
                )

    async def _bury(self, zygote: Zygote) -> None:
        self._is_up.clear()
        self._zygote = None
        while self._idle:
            self._idle.pop().close()
        await zygote.stop()
