"""Turns a coroutine that reports as it goes into a stream that its reader pulls."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

_END: Final = object()


async def reported(
    work: Callable[[Callable[[T], Awaitable[None]]], Awaitable[None]], *, bound: int
) -> AsyncGenerator[T, None]:
    """Yield what `work` reports, in order, and then raise what it raised.

    Closing the generator cancels the work and waits until it has ended.

    Args:
        work: Runs in a task of its own; it is given the function to report with, which waits while
            `bound` reports are unread.
        bound: Reports that may be unread, >= 1.
    """
    unread: asyncio.Queue[object] = asyncio.Queue()
    room = asyncio.Semaphore(bound)

    async def report(item: T) -> None:
        await room.acquire()
        unread.put_nowait(item)

    async def run() -> None:
        await work(report)

    task = asyncio.create_task(run())
    # The end needs no room: work that is cancelled while nobody reads must not wait for a reader.
    task.add_done_callback(lambda _: unread.put_nowait(_END))
    try:
        while (item := await unread.get()) is not _END:
            room.release()
            yield item  # type: ignore[misc]  # only `work` reports, and it reports values of T
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # was raised above, or nobody is left to hear of it
