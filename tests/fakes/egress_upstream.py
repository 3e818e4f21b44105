"""A server on 127.0.0.1 that behaves as badly as its path says, and counts what it gets."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived


@dataclass
class Upstream:
    """What arrived, and where the server listens."""

    port: int = 0
    requests: list[dict] = field(default_factory=list)
    connections: int = 0

    @property
    def paths(self) -> list[str]:
        return [request["path"] for request in self.requests]


def _response(
    body: bytes, *, status: str = "200 OK", headers: dict[str, str] | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _echo(request: dict) -> bytes:
    key = request["headers"].get("x-rapidapi-key", "")
    body = json.dumps(request, ensure_ascii=False).encode()
    return _response(body, headers={"Content-Type": "application/json", "X-Echo": key})


def _redirect(request: dict) -> bytes:
    target = request["path"].partition("to=")[2]
    return _response(b"", status="302 Found", headers={"Location": target})


_HTML = b"<!doctype html><title>Error</title><h1>It works!</h1>"
_ANSWERS = {
    "/echo": _echo,
    "/later": _echo,
    "/redirect": _redirect,
    "/html": lambda _: _response(_HTML, headers={"Content-Type": "text/html"}),
    "/gzip": lambda _: _response(
        gzip.compress(b"plain text"), headers={"Content-Encoding": "gzip"}
    ),
    "/bomb": lambda _: _response(
        gzip.compress(bytes(50 << 20), 9), headers={"Content-Encoding": "gzip"}
    ),
    "/brotli": lambda _: _response(b"\x0b\x02\x80hello\x03", headers={"Content-Encoding": "br"}),
    "/missing": lambda _: _response(b'{"message": "no"}', status="404 Not Found"),
    "/cookie": lambda _: _response(b"ok", headers={"Set-Cookie": "session=abc; Path=/"}),
    "/nothing": lambda _: b"HTTP/1.1 204 No Content\r\n\r\n",
    "/headers": lambda _: _response(b"ok", headers={f"X-{n}": "y" * 50 for n in range(200)}),
}


_DELAYS_S = {"/later": 0.5}


@asynccontextmanager
async def serve_upstream(context: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """A running server; TLS when a context is given."""
    state = Upstream()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while await _serve_one(reader, writer, state):
                pass
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()


@asynccontextmanager
async def serve_http2(context: ssl.SSLContext) -> AsyncIterator[Upstream]:
    """A server that speaks HTTP/2 only and answers "two" to everything."""
    state = Upstream()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                    state.requests.append({"path": headers[":path"], "headers": headers})
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, b"two", end_stream=True)
            writer.write(connection.data_to_send())
            await writer.drain()
        writer.close()

    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()


async def _serve_one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: Upstream
) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    request = {"method": method, "path": path, "headers": headers, "body": body.decode("latin-1")}
    state.requests.append(request)
    name = path.partition("?")[0]
    if name in _ENDLESS:
        await _ENDLESS[name](writer)
        return False
    await asyncio.sleep(_DELAYS_S.get(name, 0))
    answer = _ANSWERS[name](request)
    writer.write(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else answer)
    await writer.drain()
    return True


async def _never(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(600):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def _one_line(writer: asyncio.StreamWriter) -> None:
    """50 MB of JSON in one line, of unannounced length."""
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n["')
    for _ in range(50):
        writer.write(b"a" * (1 << 20))
        await writer.drain()
    writer.write(b'"]')


async def _announced(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n" + bytes(1 << 16))
    await asyncio.sleep(60)


async def _cut(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
    await writer.drain()


async def _garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff not http at all\r\n\r\n")
    await writer.drain()


_ENDLESS = {
    "/never": _never,
    "/drip": _drip,
    "/one-line": _one_line,
    "/announced": _announced,
    "/cut": _cut,
    "/garbage": _garbage,
}
