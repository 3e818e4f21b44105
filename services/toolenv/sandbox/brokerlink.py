"""The host's hold on the egress broker: launch, orders, death, restart."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog

import services
from services.toolenv.sandbox.brokerwire import (
    HEADER,
    HELLO,
    MAX_NOTE_BYTES,
    ORDER_FRAME_BYTES,
    BrokerOrder,
    Note,
    parse_note,
)
from services.toolenv.sandbox.frames import FrameError, encode_frame

log = structlog.get_logger(__name__)

_GRACE_S = 2.0  # a broker that answers this long after an order's own limit is stuck
_START_S = 10.0  # importing takes 0.3 s; a busy machine may need many times that
_STOP_S = 3.0
_PAUSE_S = 1.0  # after a failed start, so that each request does not pay for another one
# glibc reserves 64 MiB of address space per arena, and the broker's address space is limited.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
_BOOT = (
    "import sys; sys.path[:0] = {paths!r}; from services.toolenv.sandbox.broker import main; main()"
)


class BrokerGone(Exception):
    """The broker ended, was stuck or could not be started; the next order starts another one."""


class BrokerAnswer(NamedTuple):
    """Note for the log, and the frame for the worker."""

    note: Note
    frame: bytes


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Public configuration of the broker; it holds no secret.

    Attributes:
        allow_private: `host:port` pairs that may have private addresses, listed on purpose.
        static_hosts: Addresses of hosts known without DNS, as in `/etc/hosts`.
        ca_file: PEM file of further trust anchors, for intranet hosts.
    """

    allow_private: frozenset[str] = frozenset()
    static_hosts: Mapping[str, str] = field(default_factory=dict)
    ca_file: Path | None = None


class BrokerLink:
    """One broker at a time, started by the first order; for use on one event loop."""

    def __init__(self, options: BrokerOptions, *, dedicated_uid: int | None) -> None:
        """Start nothing yet.

        Args:
            options: Passed to each broker that is started.
            dedicated_uid: The uid it becomes when the host is root, else None.
        """
        self._options = options
        self._uid = dedicated_uid
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[BrokerAnswer]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None
        self._start_up: asyncio.Task[None] | None = None
        self._failed_at = -math.inf

    @property
    def pid(self) -> int | None:
        """Process id of the broker, None while there is none."""
        return self._process.pid if self._process is not None else None

    async def warm_up(self) -> None:
        """Start the broker if it is not running.

        Raises:
            BrokerGone: It cannot be launched.
        """
        if self._writer is not None:
            return
        if time.monotonic() - self._failed_at < _PAUSE_S:
            raise BrokerGone("the egress broker did not start; see the service's log")
        if self._start_up is None or self._start_up.done():
            self._start_up = asyncio.create_task(self._start(), name="egress-broker-start")
            self._start_up.add_done_callback(_mark_seen)
        # Shielded: a call whose deadline strikes now must not undo what the next one needs.
        await asyncio.shield(self._start_up)

    async def fetch(self, order: BrokerOrder) -> BrokerAnswer:
        """Carry out one order; cancelling it cancels the request.

        Raises:
            BrokerGone: There is no answer, and there will be none.
        """
        await self.warm_up()
        if self._writer is None:
            raise BrokerGone("the egress broker ended while it was started; try again")
        order_id = next(self._ids)
        answer: asyncio.Future[BrokerAnswer] = asyncio.get_running_loop().create_future()
        self._pending[order_id] = answer
        try:
            self._writer.write(
                encode_frame(order.to_message(order_id), limit_bytes=ORDER_FRAME_BYTES)
            )
            async with asyncio.timeout(order.timeout_s + _GRACE_S):
                return await answer
        except TimeoutError as error:
            self._kill()
            raise BrokerGone("the egress broker was stuck and has been ended; try again") from error
        finally:
            if self._pending.pop(order_id, None) is not None and not _has_result(answer):
                self._cancel(order_id)

    async def aclose(self) -> None:
        """End the broker; safe to repeat."""
        for task in (self._start_up, self._listener):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._start_up = self._listener = None
        await self._bury()

    def _cancel(self, order_id: int) -> None:
        if self._writer is not None and not self._writer.is_closing():
            message = encode_frame({"t": "cancel", "id": order_id}, limit_bytes=ORDER_FRAME_BYTES)
            self._writer.write(message)

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(
                PermissionError
            ):  # without CAP_KILL; its closed socket ends it
                self._process.kill()

    async def _start(self) -> None:
        process, ours = self._launch()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            async with asyncio.timeout(_START_S):
                await reader.readexactly(len(HELLO))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            writer.close()
            self._failed_at = time.monotonic()
            words = await asyncio.to_thread(_last_words, process)
            log.error("egress_broker_start_failed", error=words)
            raise BrokerGone("the egress broker did not start; see the service's log") from error
        except BaseException:  # the sandbox is closed in the meantime
            writer.close()
            process.kill()
            process.communicate(timeout=_STOP_S)
            raise
        if process.stderr is not None:
            process.stderr.close()  # nothing may fill up; what it does is in its answers
        self._process, self._writer = process, writer
        # Not a TaskGroup: it outlives this call. `aclose` ends it.
        self._listener = asyncio.create_task(self._listen(reader), name="egress-broker")

    def _launch(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                # Blocks for about 2 ms (vfork and exec).
                process = subprocess.Popen(  # noqa: S603
                    self._command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=_ENVIRONMENT,
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise BrokerGone(f"the egress broker could not be started: {error}") from error
        return process, ours

    def _command(self, descriptor: int) -> list[str]:
        options = self._options
        config = {
            "allow_private": sorted(options.allow_private),
            "static_hosts": dict(options.static_hosts),
            "ca_file": None if options.ca_file is None else str(options.ca_file.resolve()),
            "uid": self._uid,
        }
        # Isolated (-I): neither the working folder nor PYTHONPATH decides what the broker imports.
        roots = [str(Path(folder).parent) for folder in services.__path__]
        boot = _BOOT.format(paths=roots)
        return [sys.executable, "-I", "-B", "-c", boot, str(descriptor), json.dumps(config)]

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hand answers out until the broker is gone."""
        try:
            while True:
                order_id, note_bytes, frame_bytes = HEADER.unpack(
                    await reader.readexactly(HEADER.size)
                )
                if note_bytes > MAX_NOTE_BYTES or frame_bytes > ORDER_FRAME_BYTES:
                    raise FrameError("the egress broker's answer is too long")
                note = parse_note(await reader.readexactly(note_bytes))
                frame = await reader.readexactly(frame_bytes)
                waiting = self._pending.get(order_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(BrokerAnswer(note, frame))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except FrameError as error:
            log.error("egress_broker_broken", error=str(error))
        await self._bury()

    async def _bury(self) -> None:
        """Forget the broker and fail what waited for it."""
        process, self._process = self._process, None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for waiting in self._pending.values():
            if not waiting.done():
                text = "the egress broker ended during the request; try again"
                waiting.set_exception(BrokerGone(text))
        if process is not None:
            with contextlib.suppress(PermissionError):
                process.kill()
            status = await asyncio.to_thread(_reap, process)
            log.info("egress_broker_ended", status=status)


def _mark_seen(start_up: asyncio.Task[None]) -> None:
    """Nobody may be waiting any more for a start that failed; it is in the log."""
    if not start_up.cancelled():
        start_up.exception()


def _has_result(answer: asyncio.Future[BrokerAnswer]) -> bool:
    return answer.done() and not answer.cancelled()


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """End a broker that did not come up; what it wrote says why."""
    process.terminate()
    try:
        _, text = process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return "it does not end"
    return text.decode("utf-8", "replace")[-1000:] or f"exit status {process.returncode}"


def _reap(process: subprocess.Popen[bytes]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(_STOP_S)
    return None
