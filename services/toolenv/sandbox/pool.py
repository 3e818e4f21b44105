"""Several shards as one source of workers."""

from __future__ import annotations

import asyncio
from collections import deque

from services.toolenv.sandbox.control import ZygoteFacts
from services.toolenv.sandbox.results import SandboxUnavailable
from services.toolenv.sandbox.shard import Shard, ZygotePlan
from services.toolenv.sandbox.workers import Worker

_REFILL_DELAY_S = 0.002  # a short call is answered first, so that forking does not slow it down


class WorkerPool:
    """Workers of one kind, from whichever shard has them; a dead shard leaves the others alone."""

    def __init__(self, plan: ZygotePlan, *, shards: int, pool_size: int) -> None:
        self.plan = plan
        self.facts = ZygoteFacts(uid=0, landlock_abi=0, python_build="")
        self._shards = deque(
            Shard(plan, idle_workers=-(-pool_size // shards)) for _ in range(shards)
        )
        self._all = tuple(self._shards)
        self._low_water = pool_size // 2
        self._refill_timer: asyncio.TimerHandle | None = None
        self._failure = ""
        self._is_closed = False

    @property
    def last_failure(self) -> str:
        """Why there are no workers or why they are lost, empty when nothing is known."""
        causes = (*(shard.last_failure for shard in self._all), self._failure)
        return next((cause for cause in causes if cause), "")

    @property
    def zygote_pids(self) -> tuple[int | None, ...]:
        """Process ids of the zygotes on the host; None for one that is being replaced."""
        return tuple(shard.zygote.pid if shard.zygote else None for shard in self._all)

    @property
    def is_up(self) -> bool:
        """Whether any zygote is up."""
        return any(shard.is_up for shard in self._all)

    @property
    def busy(self) -> int:
        """Workers that were handed out and have not ended."""
        return sum(shard.busy for shard in self._all)

    async def start(self) -> None:
        """Bring every shard up.

        Raises:
            SandboxUnavailable: One of them does not start; none is left running.
        """
        try:
            for shard in self._all:
                self.facts = (await shard.start()).facts
        except BaseException:
            await self.aclose()
            raise

    async def take(self) -> Worker:
        """A worker for one call, as soon as there is a zygote; the caller closes it.

        Raises:
            SandboxUnavailable: The pool is closed.
        """
        while not self._is_closed:
            worker = self._take_now()
            if worker is not None:
                return worker
            await self._wait_for_any()
        raise SandboxUnavailable("the pool of workers was closed; try again")

    def _take_now(self) -> Worker | None:
        self._shards.rotate(-1)
        for shard in self._shards:
            worker = shard.take_idle()
            if worker is not None:
                return worker
        by_load = sorted(self._shards, key=lambda shard: shard.busy)
        ordered = (shard.spawn() for shard in by_load)
        return next((worker for worker in ordered if worker is not None), None)

    async def _wait_for_any(self) -> None:
        waits = [asyncio.create_task(shard.wait_until_up()) for shard in self._all]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def note_loss(self, worker: Worker, why: str) -> None:
        """Hear that a worker was lost before its job; several in a row lead to a probe."""
        self._failure = why
        for shard in self._all:
            if worker.origin is shard:
                shard.note_loss()

    def refill(self) -> None:
        """Order workers soon, or at once when few are left; call it when one has begun its job."""
        if sum(shard.idle for shard in self._all) <= self._low_water:
            self._refill_now()
        elif self._refill_timer is None:
            loop = asyncio.get_running_loop()
            self._refill_timer = loop.call_later(_REFILL_DELAY_S, self._refill_now)

    def _refill_now(self) -> None:
        if self._refill_timer is not None:
            self._refill_timer.cancel()
            self._refill_timer = None
        if not self._is_closed:
            for shard in self._all:
                shard.refill()

    async def aclose(self) -> None:
        """Kill every worker and zygote; safe to repeat."""
        self._is_closed = True
        if self._refill_timer is not None:
            self._refill_timer.cancel()
            self._refill_timer = None
        for shard in self._all:
            await shard.aclose()
