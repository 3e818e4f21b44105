"""Hands answers over one at a time, in one order, where several requests are under way at once.

A search in mode `parallel` grows the tree that the order of its answers makes. A recording
therefore lets every answer work itself out before the next one is handed over, and a replay does
the same in the recorded order. What is still at work is not visible from outside; a number of turns
of the event loop stands for it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

Address = tuple[str, str, int]
"""Port, key and number of a request."""

_WORKING_OUT: Final = 20
"""Turns of the loop: a reply passes three nested groups of tasks, each takes up to five."""
_PATIENCE: Final = 200
"""Turns after which the next one of the record is taken not to be asked for any more."""


class Turnstile:
    """For one run."""

    def __init__(self, order: Iterable[Address] = ()) -> None:
        """Begin with a recorded order; what comes after it is handed over as it arrives."""
        self._lock = asyncio.Lock()
        self._order = deque(order)

    async def live(self) -> None:
        """Wait until an answer that just came may be handed over."""
        async with self._lock:
            await _turns(_WORKING_OUT)

    async def recorded(self, address: Address) -> None:
        """Wait until it is a recorded answer's turn."""
        waited = 0
        while self._order and self._order[0] != address:
            head = self._order[0]
            await asyncio.sleep(0)
            waited = waited + 1 if self._order and self._order[0] == head else 0
            if waited > _PATIENCE and self._order:
                self._order.popleft()
        async with self._lock:
            await _turns(_WORKING_OUT)
        if self._order and self._order[0] == address:
            self._order.popleft()

    async def none(self) -> None:
        """Wait until nothing goes on any more, for a request that has no recorded answer.

        It was under way when the search stopped waiting for it, which cancels it here too.
        """
        left = -1
        while left != len(self._order):
            left = len(self._order)
            await _turns(2 * _PATIENCE)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
