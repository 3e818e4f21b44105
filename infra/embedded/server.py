"""Serves an ASGI application inside this process, on a TCP port or a unix socket."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from services.contracts.errors import FailedPrecondition, Unavailable

_START_S = 30.0
_STOP_S = 3  # what runs on after Ctrl-C is cancelled then


class _Server(uvicorn.Server):
    """A server that leaves signals to the process it lives in."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """See `uvicorn.Server`; nothing is captured."""
        yield


@asynccontextmanager
async def serve_socket(app: FastAPI, path: Path) -> AsyncIterator[None]:
    """Serve on a unix socket that only this user can open (mode 0600).

    Raises:
        FailedPrecondition: The path cannot be bound; Linux takes 107 bytes at most.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file this mode. A umask would also hit files that other threads make.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
    except OSError as exc:
        listener.close()
        raise FailedPrecondition(
            f"cannot listen on the socket {str(path)!r} of {len(os.fsencode(path))} bytes: {exc}; "
            "set TMPDIR to a shorter, writable folder"
        ) from exc
    try:
        async with serve_listener(app, listener):
            yield
    finally:
        path.unlink(missing_ok=True)


def bind_port(host: str, port: int) -> socket.socket:
    """A bound TCP socket, to be served later; `port` 0 takes a free one.

    Binding comes before anything slow is opened, so that a second system is told at once.

    Raises:
        FailedPrecondition: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by every connection. Without it the first line of a stream waits 40 ms on a kept
    # connection: Nagle's algorithm holds it back until the client has acknowledged the headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise FailedPrecondition(
            f"cannot listen on {host}:{port}: {exc.strerror}; is a system running there already? "
            "stop it, or choose another port with --port and another TOOLWRIGHT_HOME"
        ) from exc
    return listener


@asynccontextmanager
async def serve_listener(app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
    """Serve on a bound socket for the duration of the block, and close it."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=_STOP_S, lifespan="on"
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    try:
        await _wait_until_started(server, task)
        yield
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=_STOP_S + 5)
        task.cancel()  # one that hangs must not keep the process
        listener.close()


async def _wait_until_started(server: uvicorn.Server, task: "asyncio.Task[None]") -> None:
    try:
        async with asyncio.timeout(_START_S):
            while not server.started and not task.done():
                await asyncio.sleep(0.01)
    except TimeoutError as exc:
        raise Unavailable(f"the server did not start within {_START_S} s") from exc
    if task.done():
        raise Unavailable("the server stopped while starting; the log says why")
