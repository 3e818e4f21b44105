"""Connections between services, against a server on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.contracts.clients.connections import service_client
from tests.fakes.certificates import make_authority
from tests.fakes.egress_upstream import Upstream, serve_upstream

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(*, connections: int = 4) -> AsyncIterator[tuple[httpx.AsyncClient, Upstream]]:
    """A client and the server that it talks to."""
    async with (
        serve_upstream() as upstream,
        service_client(f"http://127.0.0.1:{upstream.port}", connections=connections) as http,
    ):
        yield http, upstream


async def test_requests_after_each_other_share_a_connection() -> None:
    async with connected() as (http, upstream):
        for number in range(3):
            response = await http.post("/echo", content=str(number).encode())
            assert response.json()["body"] == str(number)
    assert upstream.connections == 1


async def test_requests_at_once_have_connections_of_their_own_up_to_the_limit() -> None:
    async with connected(connections=2) as (http, upstream):
        answers = await asyncio.gather(*(http.get(f"/echo?{n}") for n in range(6)))
    assert [answer.json()["path"] for answer in answers] == [f"/echo?{n}" for n in range(6)]
    assert upstream.connections == 2


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, service_client(f"http://127.0.0.1:{port}", connections=1) as http:
        for _ in range(3):
            assert (await http.get("/")).text == "ok"
            await asyncio.sleep(0.01)  # the end of the connection arrives


async def test_what_arrives_on_an_idle_connection_is_no_answer_to_the_next_request() -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await asyncio.sleep(0.005)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await reader.read()  # until the client closes
        writer.close()

    server = await asyncio.start_server(twice, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, service_client(f"http://127.0.0.1:{port}", connections=1) as http:
        assert (await http.get("/")).status_code == 200
        await asyncio.sleep(0.02)
        assert (await http.get("/")).status_code == 200


async def test_a_head_and_its_body_arrive_together() -> None:
    arrived: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read(65_536))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, service_client(f"http://127.0.0.1:{port}", connections=1) as http:
        await http.post("/", content=b"the body")
    assert arrived[0].endswith(b"\r\n\r\nthe body")


async def test_a_long_request_arrives_whole() -> None:
    text = "x" * 3_000_000
    async with connected() as (http, upstream):
        await http.post("/echo", content=text.encode(), timeout=10)
    assert upstream.requests[0]["body"] == text


async def test_an_answer_that_is_read_slowly_holds_the_server_back() -> None:
    written = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while written < 40:
            writer.write(bytes(1 << 20))
            await writer.drain()
            written += 1
        writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        service_client(f"http://127.0.0.1:{port}", connections=1) as http,
        http.stream("GET", "/") as response,
    ):
        pieces = response.aiter_raw()
        n_bytes = len(await anext(pieces))
        await asyncio.sleep(0.05)
        written_unread = written
        async for piece in pieces:
            n_bytes += len(piece)
    assert written_unread < 20  # MiB; what the kernel holds of one connection
    assert n_bytes == 40 << 20


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/never", httpx.ReadTimeout),
        ("/cut", httpx.RemoteProtocolError),
        ("/garbage", httpx.RemoteProtocolError),
    ],
)
async def test_a_server_that_misbehaves_is_an_error_of_httpx(
    path: str, error: type[httpx.TransportError]
) -> None:
    async with connected() as (http, _):
        with pytest.raises(error):
            await http.get(path, timeout=0.1)


async def test_a_lost_connection_is_an_error_of_httpx() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, service_client(f"http://127.0.0.1:{port}", connections=1) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/")


async def test_nobody_listening_is_a_connect_error() -> None:
    async with connected() as (_, upstream):
        port = upstream.port
    async with service_client(f"http://127.0.0.1:{port}", connections=1) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/")


async def test_cookies_are_not_kept() -> None:
    async with connected() as (http, upstream):
        await http.get("/cookie")
        await http.get("/echo")
    assert "cookie" not in upstream.requests[1]["headers"]


async def test_tls_verifies_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make_authority(tmp_path, host="localhost")
    async with serve_upstream(authority.server_context) as upstream:
        url = f"https://localhost:{upstream.port}"
        async with service_client(url, connections=1) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get("/echo")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        async with service_client(url, connections=1) as http:
            assert (await http.post("/echo", content=b"secret")).json()["body"] == "secret"
