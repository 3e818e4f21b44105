"""The gate in front of the executors."""

import asyncio

import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, ResourceExhausted
from services.toolenv.admission import Admission

pytestmark = pytest.mark.anyio


async def hold(gate: Admission, release: asyncio.Event, order: list[int], number: int) -> None:
    async with gate.enter():
        order.append(number)
        await release.wait()


async def test_a_full_queue_refuses_at_once_and_admits_again_later() -> None:
    gate, release, order = Admission(max_running=1, max_waiting=1), asyncio.Event(), list[int]()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(hold(gate, release, order, 1))
        group.create_task(hold(gate, release, order, 2))
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted, match="1 calls wait already"):
            async with gate.enter():
                pass
        release.set()
    await hold(gate, release, order, 3)
    assert order == [1, 2, 3]


async def test_a_call_that_waits_past_its_deadline_gives_up_and_leaves_no_trace() -> None:
    gate, release = Admission(max_running=1, max_waiting=1), asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(hold(gate, release, [], 1))
        await asyncio.sleep(0)
        for _ in range(3):
            with deadline_in(0.02), pytest.raises(DeadlineExceeded, match="waited"):
                async with gate.enter():
                    pass
        release.set()


async def test_a_cancelled_wait_frees_its_place() -> None:
    gate, release, order = Admission(max_running=1, max_waiting=1), asyncio.Event(), list[int]()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(hold(gate, release, order, 1))
        waiting = group.create_task(hold(gate, release, order, 2))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        group.create_task(hold(gate, release, order, 3))
        await asyncio.sleep(0)
        release.set()
    assert order == [1, 3]
