"""Runs an async service inside a synchronous task worker: one per worker process."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class ServicePortal(Generic[S]):
    """One event loop and one service instance, alive for the life of the worker process.

    A fresh loop per task (`asyncio.run`) would orphan pooled connections, which are bound to the
    loop that opened them. Nothing is opened before the first call, so that a portal made at import
    survives the fork of the worker process. For one thread only.
    """

    def __init__(self, open_service: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        self._open_service = open_service
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._service: S | None = None

    def call(self, work: Callable[[S], Awaitable[T]]) -> T:
        """Run one coroutine of the service to completion, in the caller's context variables.

        The first call opens the service; when that fails, the next call tries again.
        """
        runner = self._runner = self._runner or asyncio.Runner()
        if self._service is None:
            opening = self._stack.enter_async_context(self._open_service())
            self._service = runner.run(opening)
        service = self._service

        async def run() -> T:
            return await work(service)

        # A runner keeps the context variables of its first call otherwise.
        return runner.run(run(), context=contextvars.copy_context())

    def close(self) -> None:
        """Close the service and the loop; connect to `worker_process_shutdown`."""
        if self._runner is None:
            return
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()
            self._runner, self._service = None, None
