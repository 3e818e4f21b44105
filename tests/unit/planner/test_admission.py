"""The fair queue of runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import process_time

import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, ResourceExhausted
from services.planner.admission import FairQueue

pytestmark = pytest.mark.anyio


class Line:
    """Runs of a queue that finish when they are told to; `order` is who got a place, in order."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.order: list[str] = []
        self.told: dict[str, list[int]] = {}
        self.changed: dict[str, asyncio.Event] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, user: str | None = None) -> None:
        self._ends[name] = asyncio.Event()
        self.told[name] = []
        self.changed[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._run(name, user))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # positions are counted once all have come

    async def _run(self, name: str, user: str | None) -> None:
        async def tell(position: int) -> None:
            if self.told[name]:
                self.changed[name].set()
            self.told[name].append(position)

        with self.queue.join(user) as place:
            await place.turn(tell)
            self.order.append(name)
            await self._ends[name].wait()

    async def finish(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks[name]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def leave(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.wait(self._tasks.values())


@asynccontextmanager
async def line(**bounds: float) -> AsyncIterator[Line]:
    values = {"max_runs": 1, "max_waiting": 256, "tell_every_s": 0.01} | bounds
    made = Line(FairQueue(**values))
    try:
        yield made
    finally:
        await made.close()


async def test_users_take_turns_however_many_runs_one_has() -> None:
    async with line() as queue:
        await queue.come("first", "a")
        for number in range(100):
            await queue.come(f"a{number}", "a")
        await queue.come("b0", "b")
        await queue.come("b1", "b")
        for name in ("first", "a0", "b0", "a1", "b1"):
            await queue.finish(name)
    assert queue.order == ["first", "a0", "b0", "a1", "b1", "a2"]


async def test_runs_of_one_user_are_first_come_first_served() -> None:
    async with line() as queue:
        for name in ("one", "two", "three"):
            await queue.come(name)
        await queue.finish("one")
        await queue.finish("two")
    assert queue.order == ["one", "two", "three"]


async def test_a_position_counts_the_runs_that_go_before() -> None:
    async with line() as queue:
        await queue.come("works", "a")
        for name in ("a0", "a1", "a2"):
            await queue.come(name, "a")
        await queue.come("b0", "b")
        await queue.come("b1", "b")
    # In turn: a0 b0 a1 b1 a2. Each is told its position on arrival first.
    assert [queue.told[name][0] for name in ("a0", "a1", "a2", "b0", "b1")] == [1, 2, 3, 2, 4]


@pytest.mark.parametrize("users", [1, 10_000])
def test_ten_thousand_who_come_and_leave_together_cost_no_second(users: int) -> None:
    queue = FairQueue(max_runs=1, max_waiting=10_000)
    began = process_time()
    places = [queue.join(f"user {number % users}") for number in range(10_000)]
    assert [queue.position(place) for place in places[1:]] == list(range(1, 10_000))
    for place in places:
        queue.leave(place)
    assert process_time() - began < 1.0
    assert (queue.working, queue.waiting) == (0, 0)


async def test_a_changed_position_is_told_again() -> None:
    async with line() as queue:
        for name in ("works", "one", "two"):
            await queue.come(name)
        await queue.finish("works")
        async with asyncio.timeout(2):
            await queue.changed["two"].wait()
        assert queue.told["two"] == [2, 1]


async def test_one_more_than_may_wait_is_refused_with_limit_and_fix() -> None:
    async with line(max_waiting=1) as queue:
        await queue.come("works")
        await queue.come("waits")
        with pytest.raises(ResourceExhausted, match=r"1 wait, the limit is 1; .*PLANNER_MAX"):
            queue.queue.join(None)


async def test_leaving_frees_a_place_at_once() -> None:
    async with line() as queue:
        for name in ("works", "waits", "last"):
            await queue.come(name)
        await queue.leave("waits")
        await queue.leave("works")
        assert queue.order == ["works", "last"]
        assert (queue.queue.working, queue.queue.waiting) == (1, 0)


async def test_a_run_that_leaves_just_when_it_gets_its_place_hands_it_on() -> None:
    async with line() as queue:
        for name in ("works", "unlucky", "last"):
            await queue.come(name)
        queue._ends["works"].set()
        await asyncio.sleep(0)  # the place is handed over; its new holder has not noticed yet
        await queue.leave("unlucky")
        assert queue.order == ["works", "last"]


async def test_the_callers_deadline_counts_while_a_run_waits() -> None:
    async with line() as queue:
        await queue.come("works")

        async def tell(_: int) -> None:
            return

        with pytest.raises(DeadlineExceeded), deadline_in(0.02), queue.queue.join(None) as place:
            await place.turn(tell)
        assert queue.queue.waiting == 0
