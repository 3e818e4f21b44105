"""A coroutine's reports as a stream."""

import asyncio

import pytest

from services.kit.channel import Report, reported

pytestmark = pytest.mark.anyio


async def test_reports_come_in_order() -> None:
    async def work(report: Report[int]) -> None:
        for number in range(5):
            await report(number)

    assert [number async for number in reported(work, bound=1)] == [0, 1, 2, 3, 4]


async def test_a_failure_comes_after_the_reports_before_it() -> None:
    async def work(report: Report[int]) -> None:
        await report(1)
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for number in reported(work, bound=4):
            seen.append(number)
    assert seen == [1]


async def test_a_slow_reader_holds_the_work_back() -> None:
    done = []

    async def work(report: Report[int]) -> None:
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

    async def work(report: Report[int]) -> None:
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
    tasks = []

    async def work(report: Report[int]) -> None:
        tasks.append(asyncio.current_task())
        while True:
            await report(1)

    reports = reported(work, bound=1)
    await anext(reports)
    async with asyncio.timeout(1):
        await reports.aclose()
    assert [task.cancelled() for task in tasks] == [True]


async def test_work_that_somebody_else_cancels_ends_though_nobody_reads() -> None:
    tasks = []

    async def work(report: Report[int]) -> None:
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


async def test_a_report_that_may_not_wait_is_kept_beyond_the_bound() -> None:
    waits = []

    async def work(report: Report[int]) -> None:
        for number in range(3):
            await report(number, until=0.0)
        waits.append(True)
        await report(3)
        waits.append(False)

    reports = reported(work, bound=1)
    assert await anext(reports) == 0
    await asyncio.sleep(0.01)
    assert waits == [True]
    assert [number async for number in reports] == [1, 2, 3]


async def test_a_report_waits_for_the_reader_up_to_its_time() -> None:
    ended = asyncio.Event()

    async def work(report: Report[int]) -> None:
        until = asyncio.get_running_loop().time() + 0.03
        for number in range(4):
            await report(number, until=until)
        ended.set()

    reports = reported(work, bound=1)
    assert await anext(reports) == 0
    await asyncio.sleep(0.01)
    assert not ended.is_set()
    async with asyncio.timeout(1):
        await ended.wait()
    assert [number async for number in reports] == [1, 2, 3]


async def test_what_work_reports_while_it_is_closed_does_not_hang() -> None:
    tasks = []

    async def work(report: Report[int]) -> None:
        tasks.append(asyncio.current_task())
        try:
            while True:
                await report(1)
        except asyncio.CancelledError:
            await report(2)
            raise

    reports = reported(work, bound=1)
    await anext(reports)
    async with asyncio.timeout(1):
        await reports.aclose()
    assert [task.cancelled() for task in tasks] == [True]
