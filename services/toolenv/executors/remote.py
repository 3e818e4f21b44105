"""Executes calls on another ToolBench backend over HTTP (interop 3.1).

Deviations from the reference: no fixed sleeps; a time limit for every backend; a bounded body; a
backend that cannot be reached is our failure (`Unavailable`), not an observation for the model.
"""

import asyncio
import json
import time
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httpx

from services.contracts.context import remaining_s
from services.contracts.errors import Unavailable
from services.contracts.toolenv import CallSource, CallStatus, Observation
from services.toolenv.executors.base import Declined
from services.toolenv.invocation import Invocation
from services.toolenv.observation import MAX_CONTENT_BYTES, Keep, bounded, failed
from services.toolenv.protocol import (
    INVALID_DATA_ERROR,
    TIMEOUT_ERROR,
    request_payload,
    status_of_error,
)

Strip = Literal["truncate", "filter", "random"]
"""How the backend compresses a long response."""

# A UTF-8 character of 3 bytes is escaped to 6: a longer body may still print within the limit only
# where most of it is insignificant white space.
_MAX_BODY_BYTES = 2 * MAX_CONTENT_BYTES


class _Reply(NamedTuple):
    http_status: int
    body: bytes | None
    """`None` when it exceeds the limit."""


class RemoteExecutor:
    """Client of a `/virtual` or `/rapidapi` endpoint."""

    source: CallSource = "remote"

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        url: str,
        toolbench_key: str = "",
        call_timeout_s: float = 60.0,
        strip: Strip = "truncate",
        codes_from_error_text: bool = False,
        keep: Keep | None = None,
    ) -> None:
        """Use a backend; the caller owns and closes the client.

        Args:
            http: Shared client; its own time-outs are not used.
            url: Full URL of the endpoint.
            toolbench_key: Sent as header and in the body; empty where the backend asks for none.
            call_timeout_s: Longest wait for one answer, seconds.
            strip: How the backend compresses a long response.
            codes_from_error_text: See `Compat.codes_from_error_text`.
            keep: Where an answer goes that is too long to show.
        """
        self._http = http
        self._url = url
        self._key = toolbench_key
        self._call_timeout_s = call_timeout_s
        self._strip = strip
        self._as_reference = codes_from_error_text
        self._keep = keep

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        """See `Executor.execute`; whether the backend knows an API only a call can tell."""
        wait_s = remaining_s(at_most_s=self._call_timeout_s)
        content = json.dumps(
            request_payload(
                invocation.entry.document,
                invocation.arguments_text,
                toolbench_key=self._key,
                strip=self._strip,
            )
        ).encode()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(wait_s):
                reply = await self._post(content)
        except TimeoutError:
            return failed(CallStatus.TIMEOUT, TIMEOUT_ERROR, latency_s=_since(started))
        return self._observe(reply, latency_s=_since(started))

    async def _post(self, content: bytes) -> _Reply:
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # a compressed body could unfold past the limit
            "toolbench_key": self._key,
        }
        try:
            async with self._http.stream(
                "POST", self._url, content=content, headers=headers, timeout=None
            ) as response:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_BODY_BYTES:
                        return _Reply(response.status_code, None)
                return _Reply(response.status_code, bytes(body))
        except httpx.DecodingError:
            return _Reply(200, b"")
        except httpx.TransportError as exc:
            raise self._unreachable(f"{type(exc).__name__}: {exc}") from exc
        except httpx.InvalidURL:  # its text and traceback quote the URL, which may hold a password
            raise self._unreachable("its URL is malformed") from None

    def _unreachable(self, reason: str) -> Unavailable:
        return Unavailable(
            f"tool backend {_shown(self._url)} cannot be reached: {reason}; "
            "check TOOLENV_REMOTE_URL and that the backend runs"
        )

    def _observe(self, reply: _Reply, *, latency_s: float) -> Observation:
        if reply.http_status != 200:
            error = f"{INVALID_DATA_ERROR}. status_code={reply.http_status}"
            return failed(CallStatus.REQUEST_FAILED, error, latency_s=latency_s)
        if reply.body is None:
            error = f"the backend's answer exceeds the limit of {_MAX_BODY_BYTES} bytes"
            return failed(CallStatus.OUTPUT_LIMIT, error, source="remote", latency_s=latency_s)
        try:
            answer = json.loads(reply.body)
            printed = json.dumps(answer)
        except (ValueError, RecursionError):  # also a number too long, or bytes of no Unicode form
            return failed(CallStatus.REQUEST_FAILED, INVALID_DATA_ERROR, latency_s=latency_s)
        if not isinstance(answer, dict) or "error" not in answer:
            return failed(CallStatus.REQUEST_FAILED, INVALID_DATA_ERROR, latency_s=latency_s)
        status = status_of_error(answer["error"], as_reference=self._as_reference)
        return bounded(status, printed, source="remote", latency_s=latency_s, keep=self._keep)


def _since(started: float) -> float:
    return time.perf_counter() - started


def _shown(url: str) -> str:
    """A URL without user name, password and query, for people to read."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "<malformed URL>"
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path}"
