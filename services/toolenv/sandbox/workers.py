"""The host's view of one worker: socket, pidfd, end. Every byte it sends is hostile."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

from services.toolenv.sandbox.frames import FrameBuffer, FrameError, JsonValue

_READ_BYTES = 1 << 18


class WorkerExit(NamedTuple):
    """`waitpid` status and processor seconds, as the zygote saw them."""

    status: int
    cpu_s: float


class WorkerGone(Exception):
    """The worker closed its socket before its result; the text says why, when known."""


class Worker:
    """One forked process that will run at most one call.

    `ended` resolves to the exit, or to None when the zygote died and nobody can tell any more.
    """

    def __init__(self, worker_id: int, connection: socket.socket, *, frame_bytes: int) -> None:
        self.worker_id = worker_id
        self.ended: asyncio.Future[WorkerExit | None] = asyncio.get_running_loop().create_future()
        self.is_ready = False
        self.origin: object = None  # whoever ordered it
        self._connection = connection
        self._buffer = FrameBuffer(limit_bytes=frame_bytes)
        self._pidfd: int | None = None
        self._is_doomed = False
        self._ask_zygote_to_kill: Callable[[int], None] = lambda _: None

    @property
    def last_frame_bytes(self) -> int:
        """Length of the message that `receive` returned last."""
        return self._buffer.last_length

    async def receive(self) -> dict[str, JsonValue]:
        """The next message.

        Raises:
            FrameError: The worker sent something that is not a frame; it must be killed.
            WorkerGone: It closed the connection.
        """
        loop = asyncio.get_running_loop()
        while (message := self._buffer.pop()) is None:
            try:
                data = await loop.sock_recv(self._connection, _READ_BYTES)
            except ConnectionError as error:
                raise WorkerGone from error
            if not data:
                raise WorkerGone
            self._buffer.feed(data)
        return message

    async def send(self, frame: bytes) -> None:
        """Send one encoded frame.

        Raises:
            WorkerGone: The worker has ended.
        """
        try:
            await asyncio.get_running_loop().sock_sendall(self._connection, frame)
        except ConnectionError as error:
            raise WorkerGone from error

    async def wait_until_ready(self) -> None:
        """Return once the worker has confined itself.

        Raises:
            FrameError: Its first message is not `ready`.
            WorkerGone: It could not confine itself, or the zygote died.
        """
        if not self.is_ready:
            message = await self.receive()
            if message.get("t") == "failed":  # trusted: no tool code has run in this process yet
                raise WorkerGone(f"a worker could not be confined: {message.get('error')}")
            if message != {"t": "ready"}:
                raise FrameError("the first frame is not 'ready'")
            self.is_ready = True

    def attach(self, pidfd: int, ask_zygote_to_kill: Callable[[int], None]) -> None:
        """Take ownership of the worker's pidfd; kills at once if that was asked for before."""
        self._pidfd = pidfd
        self._ask_zygote_to_kill = ask_zygote_to_kill
        if self._is_doomed:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, now or as soon as the pidfd is known; safe to repeat and after the end."""
        self._is_doomed = True
        if self._pidfd is None:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:  # a container without CAP_KILL; the zygote has the worker's uid
            self._ask_zygote_to_kill(self.worker_id)

    def close(self) -> None:
        """Kill the worker and drop its connection; the pidfd stays until the end is known."""
        self.kill()
        self._connection.close()

    def set_ended(self, end: WorkerExit | None) -> None:
        """Record the end and release the pidfd; a later call changes nothing."""
        if not self.ended.done():
            self.ended.set_result(end)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
