"""Workers forked ahead of demand, and a zygote that is replaced when it dies."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from services.toolenv.sandbox.control import Zygote
from services.toolenv.sandbox.policy import SandboxLimits
from services.toolenv.sandbox.results import SandboxUnavailable
from services.toolenv.sandbox.rootfs import RootFs
from services.toolenv.sandbox.tiers import Tier
from services.toolenv.sandbox.workers import Worker

log = structlog.get_logger(__name__)

_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.1, 5.0
_STABLE_S = 10.0  # a zygote that lived this long died of something new: start again without delay


class WorkerPool:
    """Hands out one-shot workers of one tier; `last_failure` says why there are none, if so."""

    def __init__(
        self,
        *,
        tier: Tier,
        rootfs: RootFs,
        limits: SandboxLimits,
        pool_size: int,
        dedicated_uid: int | None,
    ) -> None:
        self.tier: Tier = tier
        self.landlock_abi = 0
        self.python_build = ""
        self.last_failure = ""
        self._rootfs = rootfs
        self._limits = limits
        self._pool_size = pool_size
        self._dedicated_uid = dedicated_uid
        self._zygote: Zygote | None = None
        self._idle: deque[Worker] = deque()
        self._is_up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the zygote on the host, None while there is none."""
        return self._zygote.pid if self._zygote else None

    @property
    def is_up(self) -> bool:
        """Whether a zygote is up."""
        return self._is_up.is_set()

    async def start(self) -> None:
        """Bring the first zygote up and keep one up from then on.

        Raises:
            SandboxUnavailable: It does not start.
        """
        self._adopt(await self._start_zygote())
        # Not a TaskGroup: it would wrap every exception of the sandbox's user. `aclose` ends it.
        self._keeper = asyncio.create_task(self._keep_up(), name="sandbox-keeper")

    async def take(self) -> Worker:
        """A worker for one call, as soon as there is a zygote; the caller closes it."""
        while True:
            await self._is_up.wait()
            if self._zygote is None or self._zygote.died.done():
                self._is_up.clear()  # until the keeper has brought up another one
                continue
            while self._idle:
                worker = self._idle.popleft()
                if not worker.ended.done():
                    return worker
                worker.close()
            return self._zygote.spawn()

    def refill(self) -> None:
        """Order workers until the pool is full again; call it when one has begun its job."""
        if self._zygote is not None and self._is_up.is_set():
            while len(self._idle) < self._pool_size:
                self._idle.append(self._zygote.spawn())

    async def aclose(self) -> None:
        """Kill every worker and the zygote; safe to repeat."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._zygote is not None:
            await self._bury(self._zygote)

    async def _start_zygote(self) -> Zygote:
        return await Zygote.start(
            self.tier, rootfs=self._rootfs, limits=self._limits, dedicated_uid=self._dedicated_uid
        )

    def _adopt(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self.landlock_abi = zygote.facts.landlock_abi
        self.python_build = zygote.facts.python_build
        self._is_up.set()
        self.refill()

    async def _keep_up(self) -> None:
        """Replace a zygote that died, slower and slower while that does not help."""
        loop = asyncio.get_running_loop()
        backoff_s = _FIRST_BACKOFF_S
        while True:
            born = loop.time()
            zygote = self._zygote
            if zygote is not None:
                await asyncio.shield(zygote.died)
                log.warning(
                    "sandbox_zygote_died", tier=self.tier, lived_s=round(loop.time() - born, 3)
                )
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
                    tier=self.tier,
                    error=str(error),
                    next_try_s=backoff_s,
                )

    async def _bury(self, zygote: Zygote) -> None:
        self._is_up.clear()
        self._zygote = None
        self._drop_idle()
        await zygote.stop()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
