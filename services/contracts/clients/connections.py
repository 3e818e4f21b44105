"""Connections for HTTP between services: httpx's client over httpcore's pool, on asyncio itself.

httpx's own transport goes through anyio, which costs a fifth of a request between two of our
services: a cancel scope and a checkpoint for every read and write, a system call per idle
connection to see whether it still lives, and two packets for a head and its body. Built on
httpcore's public pool and network backend, because httpx's transport takes no backend.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from typing import Final, cast

import httpcore
import httpx

_MAX_COLLECTED_BYTES: Final = 65_536  # of a request; more is sent before its end is there
_MAX_UNREAD_BYTES: Final = 262_144  # of an answer; then the other side has to wait
_SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


def service_client(url: str, *, connections: int) -> httpx.AsyncClient:
    """A client for one of our services; whoever opens it closes it. For asyncio only.

    Args:
        url: Of the service, `http` or `https`; proxies of the environment are not used.
        connections: That may be open at once, and stay open for later requests.
    """
    return httpx.AsyncClient(
        base_url=url,
        transport=_Transport(connections=connections),
        cookies=_NoCookies(),
        trust_env=False,
    )


class _NoCookies(CookieJar):
    """Services set none; looking for them takes a tenth of a request."""

    def extract_cookies(self, response: object, request: object) -> None:
        """See `CookieJar`."""

    def add_cookie_header(self, request: object) -> None:
        """See `CookieJar`."""


class _Transport(httpx.AsyncBaseTransport):
    """Sends one request over a pool; for one event loop."""

    def __init__(self, *, connections: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=httpx.Limits().keepalive_expiry,
            network_backend=_Backend(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`."""
        url = request.url
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx_errors(request):
            response = await self._pool.handle_async_request(sent)
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response, request),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """See `httpx.AsyncBaseTransport`."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors(self._request):
            async for part in self._response.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._response.aclose()


@contextmanager
def _as_httpx_errors(request: httpx.Request) -> Iterator[None]:
    """Errors of httpcore as those of httpx, which have the same names."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    ) as exc:
        error = getattr(httpx, type(exc).__name__, httpx.TransportError)
        raise error(str(exc), request=request) from exc


class _Backend(httpcore.AsyncNetworkBackend):
    """Opens connections with asyncio."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See `httpcore.AsyncNetworkBackend`; the pool names neither address nor options."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(_Connection, host, port)
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout(f"{host}:{port}") from exc
        except OSError as exc:
            raise httpcore.ConnectError(str(exc)) from exc
        return connection

    async def sleep(self, seconds: float) -> None:
        """See `httpcore.AsyncNetworkBackend`."""
        await asyncio.sleep(seconds)


class _Connection(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection; httpcore reads and writes it from one task at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._collected = bytearray()
        """Of a request whose end is not there yet."""
        self._unread = bytearray()
        self._has_ended = False
        self._failure: Exception | None = None
        self._news = asyncio.Event()
        """Something to read, or the end."""
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # of a TCP connection it is one

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._unread += data
        self._news.set()
        if len(self._unread) > _MAX_UNREAD_BYTES:
            self._open().pause_reading()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`; the connection is closed by returning nothing."""
        self._has_ended = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._has_ended, self._failure = True, exc
        self._news.set()
        self._may_write.set()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._may_write.set()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See `httpcore.AsyncNetworkStream`; sends first what was collected."""
        try:
            async with asyncio.timeout(timeout):
                await self._send_collected()
                while not self._unread and not self._has_ended:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as exc:
            raise httpcore.ReadTimeout from exc
        if not self._unread and self._failure is not None:
            raise httpcore.ReadError(str(self._failure)) from self._failure
        data = bytes(self._unread[:max_bytes])
        was_full = len(self._unread) > _MAX_UNREAD_BYTES
        del self._unread[:max_bytes]
        if was_full and len(self._unread) <= _MAX_UNREAD_BYTES and not self._has_ended:
            self._open().resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See `httpcore.AsyncNetworkStream`; head and body go out together."""
        self._collected += buffer
        if len(self._collected) <= _MAX_COLLECTED_BYTES:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._send_collected()
        except TimeoutError as exc:
            raise httpcore.WriteTimeout from exc

    async def _send_collected(self) -> None:
        """Send it and wait for room; what comes of a lost connection, a read tells."""
        if self._collected and not self._has_ended:
            data, self._collected = self._collected, bytearray()
            self._open().write(data)
        if not self._may_write.is_set():
            await self._may_write.wait()

    async def aclose(self) -> None:
        """See `httpcore.AsyncNetworkStream`."""
        transport = self._open()
        if transport.get_write_buffer_size():
            transport.abort()  # nobody waits until a peer that does not read has taken it
        else:
            transport.close()
        await asyncio.sleep(0)  # the loop may end right after the client: its turn to close

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See `httpcore.AsyncNetworkStream`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                self._transport = await loop.start_tls(
                    self._open(), self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout from exc
        except OSError as exc:  # ssl.SSLError is one
            raise httpcore.ConnectError(str(exc)) from exc
        return self

    def get_extra_info(self, info: str) -> object:
        """See `httpcore.AsyncNetworkStream`."""
        if info == "is_readable":  # asked of idle connections: whatever came ends their use
            return self._has_ended or bool(self._unread)
        return self._open().get_extra_info("sslcontext" if info == "ssl_context" else info)

    def _open(self) -> asyncio.Transport:
        assert self._transport is not None, "httpcore has it once it is connected"
        return self._transport
