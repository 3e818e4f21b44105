"""Messages of a local MCP server: one JSON object per line over its standard streams, bounded.

Our own transport below the SDK's session, because the SDK's buffers a line without limit, hands the
server our environment, and tells neither why a connection ended nor which call an oversized answer
belonged to.
"""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

from services.toolenv.mcp_servers.fate import TOO_LARGE, Fate
from services.toolenv.mcp_servers.jail import JailedCommand

_QUEUED_MESSAGES = 64
_WRITE_TIMEOUT_S = 10.0
_EXIT_TIMEOUT_S = 1.0
_KILL_TIMEOUT_S = 2.0
_STDERR_BYTES = 2048
_DISCARD_FACTOR = 16  # an answer this many times the limit ends the server instead of being skipped
_CHUNK_BYTES = 1 << 16
_ID = re.compile(rb'"id"\s*:\s*(\d{1,18})\s*[,}]')
_HEAD_BYTES = 256


class Streams(NamedTuple):
    """Both directions of a connection."""

    read: MemoryObjectReceiveStream[SessionMessage | Exception]
    write: MemoryObjectSendStream[SessionMessage]


@asynccontextmanager
async def stdio_streams(
    command: JailedCommand, *, max_message_bytes: int, fate: Fate
) -> AsyncIterator[Streams]:
    """A running server; it and everything it started is killed at the end of the context.

    Args:
        command: What to execute.
        max_message_bytes: Longest line.
        fate: Told why the server ended.

    Raises:
        OSError: The program cannot be executed.
    """
    process = await asyncio.create_subprocess_exec(
        *command.argv,
        env=dict(command.environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        start_new_session=True,
        limit=_CHUNK_BYTES,
    )
    to_session, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, from_session = anyio.create_memory_object_stream[SessionMessage](_QUEUED_MESSAGES)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_read(process, to_session, max_message_bytes, fate)),
                group.create_task(_write(process, from_session, to_session, fate)),
                group.create_task(_drain_stderr(process, fate)),
            ]
            try:
                yield Streams(read, write)
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        await asyncio.shield(_end(process))
        for stream in (to_session, read, write, from_session):
            stream.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its input, wait a moment, kill the whole group; bubblewrap takes the jail with it."""
    if process.stdin is not None:
        process.stdin.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(_EXIT_TIMEOUT_S):
            await process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_KILL_TIMEOUT_S):
            await process.wait()
    # A child that the server left behind can hold the pipes open; asyncio then keeps the transport
    # until the loop is gone, and offers no public way to close it.
    transport = getattr(process, "_transport", None)
    if isinstance(transport, asyncio.SubprocessTransport):
        transport.close()


async def _read(
    process: asyncio.subprocess.Process,
    to_session: MemoryObjectSendStream[SessionMessage | Exception],
    limit: int,
    fate: Fate,
) -> None:
    try:
        async for line in _lines(process, limit, fate):
            if line.strip():
                await to_session.send(_parse(line))
        if not fate.reason:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_TIMEOUT_S):
                    await process.wait()
            fate.settle(_describe_exit(process.returncode))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the session is over
    finally:
        to_session.close()  # last, so that whoever sees the end finds its reason


async def _lines(
    process: asyncio.subprocess.Process, limit: int, fate: Fate
) -> AsyncIterator[bytes]:
    """Lines up to the limit; a longer one is skipped and reported as its call's failure."""
    stdout = process.stdout
    if stdout is None:
        raise ValueError("the process has no standard output to read")
    line, discarded = bytearray(), 0
    while chunk := await stdout.read(_CHUNK_BYTES):
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            line += part
            if discarded or len(line) > limit:
                yield _too_large(bytes(line), limit)
            else:
                yield bytes(line)
            line, discarded = bytearray(), 0
        line += rest
        if len(line) > limit:
            discarded += len(line) - _HEAD_BYTES
            del line[_HEAD_BYTES:]
        if discarded > _DISCARD_FACTOR * limit:
            fate.settle(f"it printed a line of more than {_DISCARD_FACTOR * limit} bytes")
            return


def _too_large(head: bytes, limit: int) -> bytes:
    """The error in place of an answer that is too long; empty when it answers no call."""
    found = _ID.search(head[:_HEAD_BYTES])
    if found is None:
        return b""
    error = ErrorData(
        code=TOO_LARGE, message=f"the answer exceeds the limit of {limit} bytes; ask for less"
    )
    return JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error).model_dump_json().encode()


def _parse(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except (ValidationError, ValueError) as exc:
        return ValueError(f"not a JSON-RPC message: {type(exc).__name__}")


async def _write(
    process: asyncio.subprocess.Process,
    from_session: MemoryObjectReceiveStream[SessionMessage],
    to_session: MemoryObjectSendStream[SessionMessage | Exception],
    fate: Fate,
) -> None:
    stdin = process.stdin
    if stdin is None:
        raise ValueError("the process has no standard input to write")
    try:
        async for item in from_session:
            text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
            stdin.write(text.encode() + b"\n")
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await stdin.drain()
    except TimeoutError:
        fate.settle(f"it read none of its input for {_WRITE_TIMEOUT_S:.0f} s")
        to_session.close()  # so that the session ends
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # it is gone; the reader says why


async def _drain_stderr(process: asyncio.subprocess.Process, fate: Fate) -> None:
    if process.stderr is None:
        return
    while chunk := await process.stderr.read(_CHUNK_BYTES):
        fate.stderr += chunk[-_STDERR_BYTES:]
        del fate.stderr[:-_STDERR_BYTES]


def _describe_exit(status: int | None) -> str:
    if status is None:
        return "it closed its standard output"
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}"
    return f"it exited with status {status}"
