"""Bounds how many runs work, and lets the others wait in a fair order.

Round robin over users, first come first served within one (Nagle 1987, RFC 970: fair queueing by
source): a user with a hundred waiting runs delays another user's first one by one run.

The gates of the tool environment and of the model serve calls of milliseconds to seconds: they are
first come first served, or refuse. Only runs, which take minutes, wait long enough for a place in
the queue to be worth telling and for fairness to matter, so the three share no code.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType

from services.contracts.context import remaining_s
from services.contracts.errors import ResourceExhausted

_TELL_EVERY_S = 1.0  # a position that changes faster is no use to a person
_HEARTBEAT_S = 15.0  # proxies and clients take a longer silence for a dead connection
_DAY_S = 86_400.0


class FairQueue:
    """Places for runs. Belongs to one event loop."""

    def __init__(
        self, *, max_runs: int, max_waiting: int, tell_every_s: float = _TELL_EVERY_S
    ) -> None:
        """Set the bounds.

        Args:
            max_runs: Runs that work at the same time, >= 1.
            max_waiting: Runs that may wait beyond those, >= 0.
            tell_every_s: Least time between two tellings of a position, seconds.
        """
        self.max_runs = max_runs
        self.max_waiting = max_waiting
        self.tell_every_s = tell_every_s
        self._working = 0
        # By user, whose turn is next first; ordered dicts, as they lose their heads at once.
        self._waiting: OrderedDict[str | None, OrderedDict[Place, None]] = OrderedDict()
        self._waiting_count = 0
        self._positions: dict[Place, int] = {}
        self._counted_at = 0.0

    @property
    def working(self) -> int:
        """Runs that have a place."""
        return self._working

    @property
    def waiting(self) -> int:
        """Runs that wait for one."""
        return self._waiting_count

    def join(self, user: str | None) -> "Place":
        """Stand in line; a place that is free is taken at once. Use the result in a `with` block.

        Raises:
            ResourceExhausted: `max_waiting` runs wait already.
        """
        place = Place(self, user)
        if self._working < self.max_runs:  # then nobody waits: a place is handed over when freed
            self._admit(place)
            return place
        if self._waiting_count >= self.max_waiting:
            raise ResourceExhausted(
                f"{self._working} runs work and {self._waiting_count} wait, the limit is "
                f"{self.max_waiting}; try again later, or raise PLANNER_MAX_RUNS or "
                "PLANNER_MAX_WAITING_RUNS"
            )
        self._waiting.setdefault(user, OrderedDict())[place] = None
        self._waiting_count += 1
        return place

    def position(self, place: "Place") -> int:
        """How many runs are admitted up to and including this waiting one, should nobody leave.

        All are counted together, at most once in `tell_every_s` and when somebody has come; what
        happened since then is not in it.
        """
        if place not in self._positions or monotonic() - self._counted_at >= self.tell_every_s:
            self._count()
        return self._positions[place]

    def _count(self) -> None:
        self._positions.clear()
        lines = [iter(places) for places in self._waiting.values()]
        while lines:
            nexts = [(line, place) for line in lines if (place := next(line, None)) is not None]
            for _, place in nexts:
                self._positions[place] = len(self._positions) + 1
            lines = [line for line, _ in nexts]
        self._counted_at = monotonic()

    def leave(self, place: "Place") -> None:
        """Give up a place, or the wait for one."""
        if place.is_admitted:
            self._working -= 1
            self._admit_next()
            return
        own = self._waiting[place.user]
        del own[place]
        self._forget(place)
        if not own:
            del self._waiting[place.user]

    def _admit_next(self) -> None:
        if not self._waiting:
            return
        user, places = self._waiting.popitem(last=False)
        place, _ = places.popitem(last=False)
        self._forget(place)
        self._admit(place)
        if places:
            self._waiting[user] = places  # behind all other users

    def _forget(self, place: "Place") -> None:
        self._waiting_count -= 1
        self._positions.pop(place, None)

    def _admit(self, place: "Place") -> None:
        self._working += 1
        place.admit()


class Place:
    """A run's place, or its wait for one; the end of the `with` block frees it at once."""

    __slots__ = ("_admitted", "_queue", "user")

    def __init__(self, queue: FairQueue, user: str | None) -> None:
        self.user = user
        self._queue = queue
        self._admitted = asyncio.Event()

    @property
    def is_admitted(self) -> bool:
        """It is this run's turn."""
        return self._admitted.is_set()

    def admit(self) -> None:
        """Let the run begin; for the queue only."""
        self._admitted.set()

    async def turn(self, tell: Callable[[int], Awaitable[None]]) -> None:
        """Wait for the turn; a run that is admitted already does not wait.

        Args:
            tell: Given the position, at once and whenever it has changed, and now and then in any
                case, so that the caller knows that the run is alive.

        Raises:
            DeadlineExceeded: The caller's deadline came first.
        """
        told, silent_s = 0, 0.0
        if not self.is_admitted:
            await asyncio.sleep(0)  # those who come at the same time are counted together
        while not self.is_admitted:
            position = self._queue.position(self)
            if position != told or silent_s >= _HEARTBEAT_S:
                await tell(position)
                told, silent_s = position, 0.0
            step_s = self._queue.tell_every_s
            await self._wait(min(step_s, remaining_s(at_most_s=_DAY_S)))
            silent_s += step_s

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._admitted.wait()
        except TimeoutError:
            return

    def __enter__(self) -> "Place":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._queue.leave(self)
