"""Bounds how many calls run and how many wait."""

import asyncio

from services.contracts.context import remaining_s
from services.contracts.errors import DeadlineExceeded, ResourceExhausted


class Admission:
    """A first-come-first-served gate with a bounded queue. Belongs to one event loop."""

    def __init__(self, *, max_running: int, max_waiting: int, max_wait_s: float = 60.0) -> None:
        """Set the bounds.

        Args:
            max_running: Calls inside at the same time, >= 1.
            max_waiting: Calls that may wait, >= 0; one more is refused at once.
            max_wait_s: Longest wait, seconds; the request's deadline may shorten it.
        """
        self._slots = asyncio.Semaphore(max_running)
        self._capacity = max_running + max_waiting
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._admitted = 0

    def enter(self) -> "_Stay":
        """Hold a slot for an `async with` block.

        Raises:
            ResourceExhausted: The queue is full.
            DeadlineExceeded: No slot came free in time.
        """
        return _Stay(self)

    async def _take(self) -> None:
        if self._admitted >= self._capacity:
            raise ResourceExhausted(
                f"{self._max_waiting} calls wait already, which is the limit; retry after a pause"
            )
        self._admitted += 1
        try:
            await self._acquire()
        except BaseException:
            self._admitted -= 1
            raise

    def _give_back(self) -> None:
        self._slots.release()
        self._admitted -= 1

    async def _acquire(self) -> None:
        wait_s = remaining_s(at_most_s=self._max_wait_s)
        if not self._slots.locked():  # then it does not wait, and a timer costs more than the slot
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._slots.acquire()
        except TimeoutError as exc:
            raise DeadlineExceeded(f"the call waited {wait_s:.1f} s for a free slot") from exc


class _Stay:
    """A slot while it is held. A class, because a generator costs more than a replay's look-up."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Admission) -> None:
        self._gate = gate

    async def __aenter__(self) -> None:
        await self._gate._take()

    async def __aexit__(self, *_: object) -> None:
        self._gate._give_back()
