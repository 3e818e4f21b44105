"""Why a connection to an MCP server ended, and the watch that ends one which floods us."""

import asyncio
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCResponse

TOO_LARGE: Final = -32097
"""Code of the error that stands for an answer beyond the limit; JSON-RPC leaves it to us."""
HTTP_FAILED: Final = -32096
"""Code of the error that stands for an HTTP exchange which failed; its data may hold `status`."""
_STDERR_SHOWN_CHARS = 400


@dataclass(slots=True)
class Fate:
    """Why a connection ended; filled in by whoever finds out first."""

    reason: str = ""
    stderr: bytearray = field(default_factory=bytearray)

    def settle(self, reason: str) -> None:
        """Keep the first reason."""
        self.reason = self.reason or reason

    def describe(self) -> str:
        """For the operator: the reason, and the last that the server printed to stderr."""
        last = " ".join(self.stderr.decode(errors="replace").split())[-_STDERR_SHOWN_CHARS:]
        printed = "".join(char if char.isprintable() else "?" for char in last)
        return (self.reason or "the connection ended") + (
            f"; it printed: {printed}" if last else ""
        )


class _Readable(Protocol):
    async def receive(self) -> SessionMessage | Exception: ...
    async def aclose(self) -> None: ...
    async def __anext__(self) -> SessionMessage | Exception: ...


class WatchedStream:
    """A session's read stream that ends when the server sends too much that nobody asked for.

    Every message that is no answer costs a task in the session; what is not a message costs a log
    line. Answers are bounded by the calls in flight.
    """

    def __init__(
        self, inner: _Readable, *, fate: Fate, max_unasked: int, window_s: float = 10.0
    ) -> None:
        """Wrap a stream.

        Args:
            inner: The transport's stream.
            fate: Told when the watch ends the connection.
            max_unasked: Most messages within `window_s` that answer no call.
            window_s: Seconds after which counting starts anew.
        """
        self._inner = inner
        self._fate = fate
        self._max_unasked = max_unasked
        self._window_s = window_s
        self._window_began = time.monotonic()
        self._unasked = 0
        self.ended = asyncio.Event()

    @property
    def last_context(self) -> object:
        """Context of the sender of the last message, for transports that carry one."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """The next message.

        Raises:
            StopAsyncIteration: The connection is over.
        """
        return await self.__anext__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            item = await self._inner.__anext__()
        except StopAsyncIteration:
            self.ended.set()
            raise
        if isinstance(item, Exception) or not isinstance(
            item.message, JSONRPCResponse | JSONRPCError
        ):
            self._count()
        return item

    def _count(self) -> None:
        now = time.monotonic()
        if now - self._window_began > self._window_s:
            self._window_began, self._unasked = now, 0
        self._unasked += 1
        if self._unasked > self._max_unasked:
            self._fate.settle(
                f"it sent {self._unasked} messages that answer no call within {self._window_s:.0f}"
                f" s; the limit is {self._max_unasked}"
            )
            self.ended.set()
            raise StopAsyncIteration

    async def aclose(self) -> None:
        """See `anyio.abc.AsyncResource.aclose`."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()
