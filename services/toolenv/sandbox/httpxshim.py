"""What replaces the methods of httpx's default transports.

Runs inside the sandbox, in the hostile process. Standard library only, besides httpx itself, which
is loaded whenever one of these is called.
"""

from __future__ import annotations

from typing import Any

from services.toolenv.sandbox.webchannel import (
    Answer,
    EgressError,
    EgressTimeout,
    WebChannel,
)


def synchronous(channel: WebChannel) -> dict[str, object]:
    """Methods for `httpx.HTTPTransport`."""

    def handle(_transport: Any, request: Any) -> Any:
        request.read()
        return _exchange(channel, request)

    return {
        "__init__": _nothing,
        "handle_request": handle,
        "__enter__": lambda transport: transport,
        "__exit__": _nothing,
        "close": _nothing,
    }


def asynchronous(channel: WebChannel) -> dict[str, object]:
    """Methods for `httpx.AsyncHTTPTransport`."""

    async def handle(_transport: Any, request: Any) -> Any:
        import asyncio

        await request.aread()
        # In a thread, so that `asyncio.wait_for` around a request keeps its word.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, _exchange, channel, request)

    return {
        "__init__": _nothing,
        "handle_async_request": handle,
        "__aenter__": _itself,
        "__aexit__": _nothing_async,
        "aclose": _nothing_async,
    }


def _nothing(_transport: Any, *_arguments: object, **_options: object) -> None:
    """There is no pool to open or close, and nobody needs trust anchors."""


async def _nothing_async(_transport: Any, *_arguments: object) -> None:
    """Likewise."""


async def _itself(transport: Any) -> Any:
    return transport


def _exchange(channel: WebChannel, request: Any) -> Any:
    import httpx

    timeout_s = request.extensions.get("timeout", {}).get("read")
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw]
    url = str(request.url)
    try:
        answer = channel.exchange(request.method, url, headers, request.content, timeout_s)
    except EgressTimeout as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except EgressError as error:
        raise httpx.ConnectError(str(error), request=request) from error
    return _response(httpx, answer)


def _response(httpx: Any, answer: Answer) -> Any:
    reason = answer.reason.encode("latin-1", "replace")
    return httpx.Response(
        answer.status,
        headers=answer.headers,
        stream=httpx.ByteStream(answer.body),
        extensions={"http_version": b"HTTP/1.1", "reason_phrase": reason},
    )
