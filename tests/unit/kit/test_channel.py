"""A coroutine's reports as a stream."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.kit.channel import reported

pytestmark = pytest.mark.anyio

Report = Callable[[int], Awaitable[None]]


async def test_reports_come_in_order() -> None:
    async def work(report: Report) -> None:
        for number in range(5):
            await report(number)

    assert [number async for number in reported(work, bound=1)] == [0, 1, 2, 3, 4]


async def test_a_failure_comes_after_the_reports_before_it() -> None:
    async def work(report: Report) -> None:
        await report(1)
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for number in reported(work, bound=4):
            seen.append(number)
    assert seen == [1]


async def test_a_slow_reader_holds_the_work_back() -> None:
    done = []

    async def work(report: Report) -> None:
        for number in range(10):
            await report(number)
            done.append(number)

    reports = reported(work, bound=2)
    await anext(reports)
    await asyncio.sleep(0.01)
    assert len(done) <= 4
    await reports.aclose()


async def test_closing_cancels_the_work_and_waits_for_it() -> None:
    ended = False

    async def work(report: Report) -> None:
        nonlocal ended
        try:
            await report(1)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended = True

    reports = reported(work, bound=1)
    await anext(reports)
    await reports.aclose()
    assert ended


async def test_closing_while_the_work_waits_to_report_does_not_hang() -> None:
    async def work(report: Report) -> None:
        while True:
            await report(1)

    reports = reported(work, bound=1)
    await anext(reports)
    async with asyncio.timeout(1):
        await reports.aclose()


async def test_work_that_somebody_else_cancels_ends_though_nobody_reads() -> None:
    tasks = []

    async def work(report: Report) -> None:
        tasks.append(asyncio.current_task())
        while True:
            await report(1)

    reports = reported(work, bound=1)
    await anext(reports)
    await asyncio.sleep(0)  # the work waits to report
    tasks[0].cancel()
    done, _ = await asyncio.wait(tasks, timeout=1)
    assert len(done) == 1
    await reports.aclose()
