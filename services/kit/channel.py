"""Turns a coroutine that reports as it goes into a stream that its reader pulls."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from math import inf
from typing import Final, Protocol, TypeVar

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)

_END: Final = object()


class Report(Protocol[Item]):
    """Passes items on to the reader."""

    async def __call__(self, item: Item, /, *, until: float = inf) -> None:
        """Pass an item on; waits for the reader while as many as the bound are unread.

        Args:
            item: What is reported.
            until: How long it may wait at most, a time of the event loop's clock, seconds; then the
                item is kept beyond the bound. 0 waits for nobody.
        """
        ...


async def reported(
    work: Callable[[Report[T]], Awaitable[None]], *, bound: int
) -> AsyncGenerator[T, None]:
    """Yield what `work` reports, in order, and then raise what it raised.

    Closing the generator cancels the work and waits until it has ended.

    Args:
        work: Runs in a task of its own; it is given the function to report with.
        bound: Reports that may be unread, >= 1, but for those that may not wait.
    """
    unread: asyncio.Queue[object] = asyncio.Queue()
    room = asyncio.Semaphore(bound)
    n_beyond = 0  # unread reports that took no room

    async def report(item: T, /, *, until: float = inf) -> None:
        nonlocal n_beyond
        if not await _is_taken(room, until):
            n_beyond += 1
        unread.put_nowait(item)

    async def read() -> object:
        nonlocal n_beyond
        item = await unread.get()
        if n_beyond:
            n_beyond -= 1
        else:
            room.release()
        return item

    async def run() -> None:
        await work(report)

    task = asyncio.create_task(run())
    # The end needs no room: work that is cancelled while nobody reads must not wait for a reader.
    task.add_done_callback(lambda _: unread.put_nowait(_END))
    try:
        while (item := await read()) is not _END:
            yield item  # type: ignore[misc]  # only `work` reports, and it reports values of T
        await task
    finally:
        task.cancel()
        while not task.done():
            await read()  # for nobody: work that still reports while it ends must find room
        if not task.cancelled():
            task.exception()  # was raised above, or nobody is left to hear of it


async def _is_taken(room: asyncio.Semaphore, until: float) -> bool:
    """Take a place; whether one was free up to a time of the event loop's clock."""
    if not room.locked() or until == inf:
        return await room.acquire()
    if until <= asyncio.get_running_loop().time():
        return False
    try:
        async with asyncio.timeout_at(until):
            return await room.acquire()
    except TimeoutError:
        return False
