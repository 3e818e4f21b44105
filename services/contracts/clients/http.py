"""One request over HTTP to another service: deadline passed on, errors rebuilt."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from services.contracts.context import outgoing_headers, remaining_s
from services.contracts.errors import (
    DeadlineExceeded,
    Internal,
    Problem,
    ServiceError,
    Unavailable,
    from_problem,
)

T = TypeVar("T")
_JSON: Final = {"content-type": "application/json"}
_MAX_KNOWN_PATHS: Final = 64
_known: WeakKeyDictionary[httpx.AsyncClient, dict[str, httpx.Request]] = WeakKeyDictionary()
"""By client and path; a client's base URL and headers stay what they were at its first request."""
_LONGEST_STREAM_S = 86_400.0  # a day, the longest deadline that a service accepts


def decode_error(response: httpx.Response) -> ServiceError:
    """Turn a non-2xx answer into the error the service raised."""
    try:
        return from_problem(Problem.model_validate_json(response.content))
    except ValidationError:
        return Internal(
            f"HTTP {response.status_code} without a problem body from {response.url.path}"
        )


async def call(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    answer: TypeAdapter[T],
    *,
    body: BaseModel | bytes | None = None,
    timeout_s: float,
) -> T:
    """Send one request and parse the answer.

    Args:
        http: Client whose base URL is the service.
        method: HTTP method.
        path: Path below the base URL.
        answer: Parser of a 2xx body.
        body: Model sent as JSON, or bytes that already are JSON.
        timeout_s: Longest wait, seconds; the request's own deadline may shorten it.

    Raises:
        ServiceError: The class the service raised, or `DeadlineExceeded` / `Unavailable` when it
            did not answer.
    """
    wait_s = remaining_s(at_most_s=timeout_s)
    content = body.model_dump_json().encode() if isinstance(body, BaseModel) else body
    request = _request(http, method, path, content, timeout_s=wait_s)
    try:
        response = await http.send(request)
    except httpx.TimeoutException as exc:
        raise DeadlineExceeded(f"{path} did not answer within {wait_s:.1f} s") from exc
    except httpx.TransportError as exc:
        raise Unavailable(f"{path} cannot be reached: {type(exc).__name__}: {exc}") from exc
    if not response.is_success:
        raise decode_error(response)
    try:
        return answer.validate_json(response.content)
    except ValidationError as exc:
        raise Unavailable(
            f"{path} answered outside its contract: {exc.error_count()} errors"
        ) from exc


def _request(
    http: httpx.AsyncClient, method: str, path: str, content: bytes | None, *, timeout_s: float
) -> httpx.Request:
    """What `http.build_request` makes, from parts that it made for the path once.

    It parses the URL anew and merges headers and cookies for every request, which takes a tenth of
    the whole exchange with a service on the same machine.
    """
    known = _known.setdefault(http, {})
    first = known.get(path)
    if first is None:
        if len(known) >= _MAX_KNOWN_PATHS:
            known.clear()  # paths with a run's id or an offset in them do not come again
        # `GET`, because the others get a `Content-Length` even without content.
        first = known[path] = http.build_request("GET", path, headers=_JSON)
    headers = first.headers.copy()
    headers.update(outgoing_headers(timeout_s=timeout_s))
    seconds = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
    return httpx.Request(
        method, first.url, headers=headers, content=content, extensions={"timeout": seconds}
    )


@asynccontextmanager
async def stream_lines(
    http: httpx.AsyncClient,
    path: str,
    *,
    body: BaseModel | None = None,
    timeout_s: float,
    method: str = "POST",
) -> AsyncIterator[AsyncIterator[str]]:
    """Send a model and yield an iterator over the answer's lines; closing it cancels the work.

    Args:
        http: Client whose base URL is the service.
        path: Path below the base URL.
        body: Model sent as JSON.
        timeout_s: Longest silence between two pieces, seconds.
        method: HTTP method.
    """
    left_s = remaining_s(at_most_s=_LONGEST_STREAM_S)
    wait_s = min(timeout_s, left_s)
    headers = {"content-type": "application/json", **outgoing_headers(timeout_s=left_s)}
    content = body.model_dump_json().encode() if body is not None else None
    try:
        async with http.stream(
            method, path, content=content, headers=headers, timeout=wait_s
        ) as response:
            if not response.is_success:
                await response.aread()
                raise decode_error(response)
            yield response.aiter_lines()
    except httpx.TimeoutException as exc:
        raise DeadlineExceeded(f"{path} was silent for {wait_s:.1f} s") from exc
    except httpx.TransportError as exc:
        raise Unavailable(f"{path} broke off: {type(exc).__name__}: {exc}") from exc
