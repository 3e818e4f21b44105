"""Messages of a remote MCP server: streamable HTTP through an HTTP transport that we are given.

The SDK speaks httpx2, the rest of this service httpx: `SdkTransport` is the bridge. It also keeps
one failing exchange from ending the session that all calls share, which an exception inside the
SDK's transport would: a failure becomes a JSON-RPC error that answers the one request.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx
import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client
from pydantic import JsonValue, SecretStr

from services.contracts.errors import ServiceError
from services.toolenv.egress.errors import EgressError, EgressRefused, ResponseTooLarge
from services.toolenv.extension import AuthExtension
from services.toolenv.mcp_servers.definitions import HttpTransport
from services.toolenv.mcp_servers.fate import HTTP_FAILED, TOO_LARGE

Lookup = Callable[[str], SecretStr | None]
"""The secret of a credential, `None` when there is none."""

_NOTICE_TIMEOUT_S = 5.0  # the SDK sends nothing else while a notification is on its way
_TIMEOUT: Final = httpx2.Timeout(10.0, read=300.0)
_OWN_ANSWERS: Final = frozenset({400, 404, 405})  # the SDK gives these a meaning of their own
_DROPPED: Final = frozenset({"content-length", "transfer-encoding", "content-encoding"})


@asynccontextmanager
async def http_streams(
    server: HttpTransport,
    *,
    transport: httpx.AsyncBaseTransport,
    lookup: Lookup,
    max_message_bytes: int,
) -> AsyncIterator[TransportStreams]:
    """A connection to a remote server.

    Args:
        server: The definition.
        transport: Sends the requests; whoever opened it closes it.
        lookup: Asked for the credentials at every request.
        max_message_bytes: Longest answer or event.
    """
    bridge = SdkTransport(
        transport, auth=server.auth, lookup=lookup, max_message_bytes=max_message_bytes
    )
    async with (
        httpx2.AsyncClient(transport=bridge, timeout=_TIMEOUT, trust_env=False) as client,
        streamable_http_client(
            server.url, http_client=client, max_sse_event_size=max_message_bytes
        ) as streams,
    ):
        yield streams


class SdkTransport(httpx2.AsyncBaseTransport):
    """Sends the SDK's requests through an httpx transport; a failing server raises nothing."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        auth: Sequence[AuthExtension],
        lookup: Lookup,
        max_message_bytes: int,
    ) -> None:
        """Bridge to `inner`; see `http_streams`."""
        self._inner = inner
        self._auth = tuple(auth)
        self._lookup = lookup
        self._limit = max_message_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; a failure is a JSON-RPC error in a response of status 502."""
        content = await request.aread()
        is_notice = request.method != "GET" and not _expects_answer(content)
        try:
            async with asyncio.timeout(_NOTICE_TIMEOUT_S if is_notice else None):
                return await self._send(request, content)
        except TimeoutError:
            return _failure(HTTP_FAILED, f"no reply within {_NOTICE_TIMEOUT_S:.0f} s")
        except ResponseTooLarge as exc:
            return _failure(TOO_LARGE, str(exc))
        except (EgressRefused, httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
            return _failure(HTTP_FAILED, f"{type(exc).__name__}: {exc}"[:500], sent=False)
        except (EgressError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as exc:
            return _failure(HTTP_FAILED, f"{type(exc).__name__}: {exc}"[:500])

    async def _send(self, request: httpx2.Request, content: bytes) -> httpx2.Response:
        outgoing = httpx.Request(
            request.method,
            str(request.url),
            headers=[
                (name, value)
                for name, value in request.headers.multi_items()
                if name.lower() != "accept-encoding"
            ],
            content=content,
            extensions={"timeout": request.extensions.get("timeout", {})},
        )
        # A compressed answer could unfold past the limit.
        outgoing.headers["accept-encoding"] = "identity"
        try:
            self._authorise(outgoing)
        except ServiceError as exc:  # the credentials cannot be read
            return _failure(HTTP_FAILED, exc.detail, sent=False)
        response = await self._inner.handle_async_request(outgoing)
        kind = response.headers.get("content-type", "").lower()
        if response.status_code == 200 and kind.startswith("text/event-stream"):
            return httpx2.Response(
                200, headers={"content-type": kind, **_session(response)}, stream=_Events(response)
            )
        return await self._whole(response)

    async def _whole(self, response: httpx.Response) -> httpx2.Response:
        try:
            body = bytearray()
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                return _failure(HTTP_FAILED, "the server compressed its answer unasked")
            async for chunk in _chunks(response):
                body += chunk
                if len(body) > self._limit:
                    return _failure(
                        TOO_LARGE,
                        f"the answer exceeds the limit of {self._limit} bytes; ask for less",
                    )
        finally:
            await response.aclose()
        status = response.status_code
        if status >= 400 and status not in _OWN_ANSWERS and not _is_rpc_error(bytes(body)):
            return _failure(HTTP_FAILED, f"HTTP status {status}", status=status)
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in _DROPPED
        ]
        return httpx2.Response(status, headers=headers, content=bytes(body))

    def _authorise(self, request: httpx.Request) -> None:
        for placement in self._auth:
            secret = self._lookup(placement.credential)
            if secret is not None:
                _attach(request, placement, secret.get_secret_value())

    async def aclose(self) -> None:
        """Leave the inner transport open: it is not ours."""


class _Events(httpx2.AsyncByteStream):
    """An event stream as it arrives; the SDK bounds each event."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in _chunks(self._response):
                yield chunk
        except (EgressError, httpx.HTTPError, httpx.StreamError) as exc:
            raise httpx2.ReadError(f"{type(exc).__name__}: {exc}"[:500]) from exc

    async def aclose(self) -> None:
        await self._response.aclose()


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise httpx.StreamError("the transport gave no asynchronous stream")
    async for chunk in stream:
        yield chunk


def _attach(request: httpx.Request, placement: AuthExtension, secret: str) -> None:
    if placement.kind == "bearer":
        request.headers["authorization"] = f"Bearer {secret}"
    elif placement.kind == "basic":
        coded = base64.b64encode(secret.encode()).decode()
        request.headers["authorization"] = f"Basic {coded}"
    elif placement.kind == "header":
        request.headers[placement.name] = placement.prefix + secret
    elif placement.kind == "cookie":
        present = request.headers.get("cookie")
        pair = f"{placement.name}={placement.prefix}{secret}"
        request.headers["cookie"] = f"{present}; {pair}" if present else pair
    else:
        request.url = request.url.copy_add_param(placement.name, placement.prefix + secret)


def _session(response: httpx.Response) -> dict[str, str]:
    value = response.headers.get("mcp-session-id")
    return {} if value is None else {"mcp-session-id": value}


def _expects_answer(content: bytes) -> bool:
    try:
        message = json.loads(content)
    except ValueError:
        return False
    return isinstance(message, dict) and "id" in message and "method" in message


def _is_rpc_error(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and isinstance(message.get("error"), dict)


def _failure(
    code: int, text: str, *, status: int | None = None, sent: bool = True
) -> httpx2.Response:
    error: JsonValue = {"code": code, "message": text, "data": {"status": status, "sent": sent}}
    # 502 also for our own refusals: the SDK reads a JSON-RPC error from any status above 399.
    return httpx2.Response(502, json={"jsonrpc": "2.0", "id": 0, "error": error})
