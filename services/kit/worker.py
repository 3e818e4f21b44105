"""Runs an async service inside a synchronous task worker: one per worker process."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class ServicePortal(Generic[S]):
    """One event loop and one service instance, alive for the life of the worker process.

    A fresh loop per task (`asyncio.run`) would orphan pooled connections, which are bound to the
    loop that opened them.
    """

    def __init__(self, open_service: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        self._open_service = open_service
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._service: S | None = None

    def start(self) -> None:
        """Open the service; connect to `worker_process_init`."""
        self._service = self._runner.run(self._stack.enter_async_context(self._open_service()))

    def call(self, work: Callable[[S], Awaitable[T]]) -> T:
        """Run one coroutine of the service to completion."""
        if self._service is None:
            raise RuntimeError("ServicePortal.start was not called")
        service = self._service

        async def run() -> T:
            return await work(service)

        return self._runner.run(run())

    def stop(self) -> None:
        """Close the service and the loop; connect to `worker_process_shutdown`."""
        self._runner.run(self._stack.aclose())
        self._runner.close()
