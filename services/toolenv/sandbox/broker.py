"""The egress broker: the one process that talks to the internet on behalf of tools.

It parses what hostile servers send, so it has its own process, its own uid when the host is root,
and nothing to steal but the secrets of requests in flight. Launched by `brokerlink`; ends when the
host closes its socket.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import encodings.idna  # noqa: F401  # loaded late otherwise, when we may not reach the file
import json
import os
import resource
import socket
import ssl
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio._backends._asyncio  # noqa: F401  # likewise
import httpcore._async.http2  # noqa: F401  # likewise
import httpx

from services.contracts.context import deadline_in
from services.toolenv.egress.errors import EgressError, EgressRefused, ResponseTooLarge
from services.toolenv.egress.redaction import Redactor
from services.toolenv.egress.transport import (
    SIZE_EXTENSION,
    EgressLimits,
    GuardedTransport,
    NameService,
    trusting,
)
from services.toolenv.sandbox import confine
from services.toolenv.sandbox.brokerwire import (
    HELLO,
    ORDER_FRAME_BYTES,
    Note,
    failure_frame,
    pack_answer,
)
from services.toolenv.sandbox.frames import FrameBuffer, FrameTooLong, JsonValue, encode_frame

_READ_BYTES = 1 << 18
_MAX_AT_ONCE = 64  # beyond it orders wait, and their own time limits run
_RESOLVING_THREADS = 32
_MAX_HEADERS = 90  # http.client in the worker refuses 100
_MAX_HEADER_CHARS = 16 << 10
_MEMORY_BYTES = 2 << 30  # address space, bytes; measured use is 0.2 GB
_DROPPED = frozenset(
    {
        "alt-svc",
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class _Answer(NamedTuple):
    note: Note
    message: dict[str, JsonValue]


def main() -> None:
    """Serve one host: `argv` holds the socket's descriptor and the public configuration."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    config: dict[str, JsonValue] = json.loads(sys.argv[2])
    ca_file = config["ca_file"]
    context = trusting(Path(ca_file) if isinstance(ca_file, str) else None)
    _confine(config["uid"])
    transport = _transport(config, context)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(connection, transport))


def _confine(uid: JsonValue) -> None:
    """Become an ordinary, undebuggable user without core dumps; the parent's end is ours."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    if isinstance(uid, int):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    confine.forbid_new_privileges()
    confine.hide_from_same_uid()


def _transport(config: dict[str, JsonValue], context: ssl.SSLContext) -> GuardedTransport:
    hosts, private = config["static_hosts"], config["allow_private"]
    names = NameService(
        static_hosts={k: str(v) for k, v in hosts.items()} if isinstance(hosts, dict) else {},
        allow_private=frozenset(map(str, private)) if isinstance(private, list) else frozenset(),
    )
    return GuardedTransport(
        names=names, limits=EgressLimits(response_bytes=64 << 20), ssl_context=context
    )


async def _serve(connection: socket.socket, transport: GuardedTransport) -> None:
    # The default of 6 threads on 2 cores would let a few names that hang stop all others.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_RESOLVING_THREADS))
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection)
    writer.write(HELLO)
    running: dict[int, asyncio.Task[None]] = {}
    places = asyncio.Semaphore(_MAX_AT_ONCE)
    buffer = FrameBuffer(limit_bytes=ORDER_FRAME_BYTES)
    async with asyncio.TaskGroup() as group:
        while data := await reader.read(_READ_BYTES):
            buffer.feed(data)
            while (order := buffer.pop()) is not None:
                order_id = int(str(order["id"]))
                if order["t"] == "cancel":
                    if order_id in running:
                        running[order_id].cancel()
                    continue
                task = group.create_task(_obey(order_id, order, transport, writer, places))
                running[order_id] = task
                task.add_done_callback(partial(_forget, running, order_id))
        for task in list(running.values()):
            task.cancel()
    await transport.aclose()


def _forget(
    running: dict[int, asyncio.Task[None]], order_id: int, _task: asyncio.Task[None]
) -> None:
    del running[order_id]


async def _obey(
    order_id: int,
    order: dict[str, JsonValue],
    transport: GuardedTransport,
    writer: asyncio.StreamWriter,
    places: asyncio.Semaphore,
) -> None:
    answer = await _fetch(order, transport, places)
    limit = int(str(order["frame_bytes"]))
    try:
        payload = encode_frame(answer.message, limit_bytes=limit)
    except FrameTooLong:
        text = "the response does not fit into a frame; ask the API for less"
        answer = _failed(order, "too_large", text, Redactor(()))
        payload = encode_frame(answer.message, limit_bytes=limit)
    writer.write(pack_answer(order_id, answer.note, payload))
    await writer.drain()


async def _fetch(
    order: dict[str, JsonValue], transport: GuardedTransport, places: asyncio.Semaphore
) -> _Answer:
    redact = order["redact"]
    redactor = Redactor(map(str, redact) if isinstance(redact, list) else ())
    timeout_s = float(str(order["timeout_s"]))
    late = f"there was no answer within {timeout_s:.3g} s"
    try:
        with deadline_in(timeout_s):
            async with asyncio.timeout(timeout_s), places:
                return await _exchange(order, transport, redactor)
    except EgressRefused as error:
        return _failed(order, "refused", str(error), redactor)
    except ResponseTooLarge as error:
        return _failed(order, "too_large", str(error), redactor)
    except (TimeoutError, httpx.TimeoutException) as error:
        return _failed(order, "timeout", str(error) or late, redactor)
    except (EgressError, httpx.HTTPError, httpx.InvalidURL, zlib.error, OSError) as error:
        return _failed(order, "connection", str(error) or type(error).__name__, redactor)
    except Exception as error:  # noqa: BLE001  # a hostile server must not end others' requests
        return _failed(order, "connection", f"unexpected {type(error).__name__}", redactor)


async def _exchange(
    order: dict[str, JsonValue], transport: GuardedTransport, redactor: Redactor
) -> _Answer:
    limit_bytes = int(str(order["max_response_bytes"]))
    headers = order["headers"]
    request = httpx.Request(
        str(order["method"]),
        str(order["url"]),
        headers=[(str(pair[0]), str(pair[1])) for pair in headers if isinstance(pair, list)]
        if isinstance(headers, list)
        else [],
        content=base64.b64decode(str(order["body"])) or None,
        extensions={SIZE_EXTENSION: limit_bytes},
    )
    response = await transport.handle_async_request(request)
    try:
        body = b"".join([part async for part in response.aiter_raw()])
    finally:
        await response.aclose()
    message: dict[str, JsonValue] = {
        "t": "http_result",
        "id": order["reply_to"],
        "status": response.status_code,
        "reason": redactor.in_text(response.reason_phrase),
        "headers": _headers(response, redactor, is_head=request.method == "HEAD"),
        "body": base64.b64encode(redactor.in_bytes(body)).decode("ascii"),
    }
    return _Answer(Note(response.status_code, "", len(body)), message)


def _headers(response: httpx.Response, redactor: Redactor, *, is_head: bool) -> list[JsonValue]:
    found = [
        (name.decode("latin-1"), value.decode("latin-1")[:_MAX_HEADER_CHARS])
        for name, value in response.headers.raw
    ]
    dropped = _DROPPED - {"content-length"} if is_head else _DROPPED
    kept = [pair for pair in found if pair[0].lower() not in dropped][:_MAX_HEADERS]
    return [[name, value] for name, value in redactor.in_headers(kept)]


def _failed(order: dict[str, JsonValue], kind: str, text: str, redactor: Redactor) -> _Answer:
    frame = failure_frame(order["reply_to"], kind, redactor.in_text(text))
    return _Answer(Note(0, kind, 0), frame)
