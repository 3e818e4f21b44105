"""An httpx transport that reaches public addresses only, within a deadline and a size.

The name is resolved once, every answer is checked, and the connection goes to a checked address
while TLS still verifies the name: nothing that DNS says later matters. Built on httpcore's public
pool and network backend, because httpx's own transport takes neither a backend nor a size.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpcore
import httpx

from services.contracts.context import remaining_s
from services.contracts.errors import DeadlineExceeded, FailedPrecondition
from services.toolenv.egress.decoding import ACCEPTED_ENCODINGS, Decoder, UnknownEncoding
from services.toolenv.egress.errors import NameNotResolved, ResponseTooLarge
from services.toolenv.egress.resolve import Resolver, resolve, resolve_by_system
from services.toolenv.egress.targets import Target, parse_target

SIZE_EXTENSION = "max_response_bytes"
"""Key of `httpx.Request.extensions` under which one request lowers the transport's size limit."""
_SCHEMES = ("http", "https")
_MAX_ADDRESSES_TRIED = 3
_SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


@dataclass(frozen=True, slots=True)
class EgressLimits:
    """Bounds of one transport.

    Attributes:
        connect_s: Seconds for the name and for TCP and TLS, each.
        total_s: Seconds for the whole exchange; the request's deadline may shorten it.
        response_bytes: Size of a body, before and after decompression.
        connections: Open connections to all hosts together.
        keepalive_s: Seconds after which an idle connection is closed.
    """

    connect_s: float = 5.0
    total_s: float = 30.0
    response_bytes: int = 8 << 20
    connections: int = 100
    keepalive_s: float = 30.0


@dataclass(frozen=True, slots=True)
class NameService:
    """How hosts become addresses.

    Attributes:
        resolver: Asked once per connection.
        static_hosts: Addresses known without asking, as in `/etc/hosts`; still checked.
        allow_private: `host:port` pairs that may have forbidden addresses, listed by an operator.
    """

    resolver: Resolver = resolve_by_system
    static_hosts: Mapping[str, str] = field(default_factory=dict)
    allow_private: frozenset[str] = frozenset()

    async def addresses(self, host: str, port: int, timeout_s: float) -> tuple[str, ...]:
        """Checked addresses; errors as in `resolve`."""
        is_private_allowed = Target("", host, port).authority in self.allow_private
        fixed = self.static_hosts.get(host)

        async def known(_host: str, _port: int) -> list[str]:
            return [fixed] if fixed else []

        return await resolve(
            host,
            port,
            resolver=known if fixed else self.resolver,
            timeout_s=timeout_s,
            is_private_allowed=is_private_allowed,
        )


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses; TLS is negotiated above, with the original name."""

    def __init__(
        self,
        names: NameService,
        limits: EgressLimits,
        backend: httpcore.AsyncNetworkBackend | None,
    ) -> None:
        self._names = names
        self._connect_s = limits.connect_s
        self._backend = backend or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See `httpcore.AsyncNetworkBackend`."""
        limit_s = self._connect_s if timeout is None else min(timeout, self._connect_s)
        try:
            addresses = await self._names.addresses(host, port, limit_s)
        except NameNotResolved as exc:
            raise httpcore.ConnectError(str(exc)) from exc
        tried = addresses[:_MAX_ADDRESSES_TRIED]
        for address in tried[:-1]:
            try:
                return await self._backend.connect_tcp(address, port, timeout=limit_s / len(tried))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._backend.connect_tcp(tried[-1], port, timeout=limit_s / len(tried))

    async def sleep(self, seconds: float) -> None:
        """See `httpcore.AsyncNetworkBackend`."""
        await asyncio.sleep(seconds)


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends one request and follows no redirect; safe to share between tasks of one event loop.

    Responses arrive decompressed, without `Content-Encoding`; the body is read as a stream and
    bounded while it comes.
    """

    def __init__(
        self,
        *,
        names: NameService = NameService(),  # frozen
        limits: EgressLimits = EgressLimits(),  # frozen
        ssl_context: ssl.SSLContext | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            names: Resolver, known hosts, exceptions for private hosts.
            limits: Seconds, bytes and connections.
            ssl_context: Trust anchors; None means certifi's.
            backend: Opens TCP connections to checked addresses; None means anyio's.
        """
        self._limits = limits
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpx.create_ssl_context(trust_env=False),
            max_connections=limits.connections,
            max_keepalive_connections=limits.connections,
            keepalive_expiry=limits.keepalive_s,
            http2=True,
            network_backend=_GuardedBackend(names, limits, backend),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`.

        Raises:
            EgressRefused: The guard forbids the URL or what it resolves to.
            ResponseTooLarge: The announced size exceeds the limit; reading the body may raise it.
            DeadlineExceeded: The request's deadline has passed already.
            httpx.TransportError: Anything that can go wrong with a connection.
        """
        target = parse_target(request.url, schemes=_SCHEMES)
        limit_s = self._seconds(request)
        until = asyncio.get_running_loop().time() + limit_s
        limit_bytes = self._bytes(request)
        with _as_httpx_errors(request, limit_s):
            async with asyncio.timeout_at(until):
                response = await self._pool.handle_async_request(
                    _core_request(request, target, limit_s)
                )
        try:
            return _guarded_response(request, response, until, limit_bytes, limit_s)
        except BaseException:
            await response.aclose()
            raise

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    def _seconds(self, request: httpx.Request) -> float:
        asked = request.extensions.get("timeout", {}).get("read")
        limit_s = self._limits.total_s if asked is None else min(asked, self._limits.total_s)
        try:
            return remaining_s(at_most_s=limit_s)
        except DeadlineExceeded as exc:
            raise httpx.ReadTimeout(str(exc), request=request) from exc

    def _bytes(self, request: httpx.Request) -> int:
        asked = request.extensions.get(SIZE_EXTENSION, self._limits.response_bytes)
        return min(int(asked), self._limits.response_bytes)


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """A TLS context with the usual certificate authorities, and those of a PEM file.

    Raises:
        FailedPrecondition: The file cannot be read, or holds no certificate.
    """
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is None:
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as exc:
        raise FailedPrecondition(
            f"certificate file {str(ca_file)!r} cannot be used: {exc.strerror or exc}; "
            "name a PEM file"
        ) from exc
    return context


def _core_request(request: httpx.Request, target: Target, limit_s: float) -> httpcore.Request:
    url = request.url
    headers = [
        (name, value)
        for name, value in request.headers.raw
        if name.lower() not in (b"host", b"accept-encoding")
    ]
    # The host that was checked, not one that a caller wrote into the headers.
    headers.insert(0, (b"Host", url.netloc))
    headers.append((b"Accept-Encoding", ACCEPTED_ENCODINGS.encode()))
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(
            scheme=url.raw_scheme, host=target.host.encode(), port=url.port, target=url.raw_path
        ),
        headers=headers,
        content=request.stream,
        extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), limit_s)},
    )


def _guarded_response(
    request: httpx.Request,
    response: httpcore.Response,
    until: float,
    limit_bytes: int,
    limit_s: float,
) -> httpx.Response:
    headers = httpx.Headers(response.headers)
    # A bodyless answer may still name an encoding.
    has_body = request.method != "HEAD" and response.status not in (204, 304)
    try:
        decoder = Decoder(
            headers.get("content-encoding", "") if has_body else "", limit_bytes=limit_bytes
        )
    except UnknownEncoding as exc:
        raise httpx.DecodingError(str(exc), request=request) from exc
    announced = headers.get("content-length", "")
    if (
        has_body
        and announced.isdecimal()
        and announced.isascii()
        and int(announced[:20]) > limit_bytes
    ):
        raise ResponseTooLarge(limit_bytes=limit_bytes, what="the response")
    if not decoder.is_identity:
        del headers["content-encoding"]
        headers.pop("content-length", None)
    return httpx.Response(
        status_code=response.status,
        headers=headers,
        stream=_BoundedStream(response, request, decoder, until, limit_s),
        extensions={
            key: value
            for key, value in response.extensions.items()
            if key in ("http_version", "reason_phrase")
        },
    )


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(
        self,
        response: httpcore.Response,
        request: httpx.Request,
        decoder: Decoder,
        until: float,
        limit_s: float,
    ) -> None:
        self._response = response
        self._request = request
        self._decoder = decoder
        self._until = until
        self._limit_s = limit_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # httpcore's asynchronous pool gives asynchronous streams; its type covers both kinds.
        parts = aiter(cast(AsyncIterable[bytes], self._response.stream))
        while True:
            with _as_httpx_errors(self._request, self._limit_s):
                async with asyncio.timeout_at(self._until):
                    part = await anext(parts, None)
                if part is None:
                    self._check_complete()
                    return
                pieces = list(self._decoder.feed(part))
            for piece in pieces:
                yield piece

    def _check_complete(self) -> None:
        """Half of a compressed answer would be taken for a short one, and recorded as such."""
        if not self._decoder.is_complete:
            text = f"{self._request.url.host}: the compressed body is cut off"
            raise httpx.DecodingError(text, request=self._request)

    async def aclose(self) -> None:
        await self._response.aclose()


_HTTPX_ERRORS: tuple[tuple[type[Exception], type[httpx.RequestError]], ...] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.PoolTimeout, httpx.PoolTimeout),
    (httpcore.WriteTimeout, httpx.WriteTimeout),
    (httpcore.TimeoutException, httpx.ReadTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.NetworkError, httpx.ReadError),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError),
    (httpcore.ProtocolError, httpx.RemoteProtocolError),
    (httpcore.UnsupportedProtocol, httpx.UnsupportedProtocol),
    (zlib.error, httpx.DecodingError),
)


@contextmanager
def _as_httpx_errors(request: httpx.Request, limit_s: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as exc:
        text = f"{request.url.host} did not answer within {limit_s:.3g} s"
        raise httpx.ReadTimeout(text, request=request) from exc
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as exc:
        raise _translated(exc, request) from exc
    except (httpcore.UnsupportedProtocol, zlib.error) as exc:
        raise _translated(exc, request) from exc


def _translated(exc: Exception, request: httpx.Request) -> httpx.RequestError:
    text = f"{request.url.host}: {str(exc) or type(exc).__name__}"
    for source, target in _HTTPX_ERRORS:
        if isinstance(exc, source):
            return target(text, request=request)
    return httpx.TransportError(text, request=request)
