"""What an OpenAI-compatible server's refusal means, as a `ServiceError`."""

import json
import time
from email.utils import parsedate_to_datetime

import httpx

from services.contracts.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PayloadTooLarge,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)

_MAX_DETAIL_CHARS = 300


def error_of(response: httpx.Response, body: bytes) -> ServiceError:
    """The error that a non-2xx answer stands for.

    The server's own words are kept only for a refused request (400, 404, 422) and shortened, since
    an answer about the key may quote it.
    """
    status = response.status_code
    if status in (401, 403):
        return FailedPrecondition(
            f"the model server refused the key (HTTP {status}); set LLM_API_KEY to a valid one"
        )
    if status == 404:
        return FailedPrecondition(
            f"the model server knows no such model or route; check LLM_MODEL and LLM_BASE_URL "
            f"(it says: {_server_words(body)})"
        )
    if status == 413:
        return PayloadTooLarge("the model server refused the request as too large; send less")
    if status == 429:
        return ResourceExhausted("the model server is at its rate limit; try again later")
    if status == 408 or status >= 500:
        return Unavailable(f"the model server answered HTTP {status}")
    if 400 <= status < 500:
        return InvalidArgument(
            f"the model server refused the request (HTTP {status}): {_server_words(body)}"
        )
    return Internal(f"the model server answered HTTP {status}, which no request of ours asks for")


def _server_words(body: bytes) -> str:
    try:
        data = json.loads(body)
    except ValueError:
        return "no reason given"
    error = data.get("error", data) if isinstance(data, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message[:_MAX_DETAIL_CHARS] if isinstance(message, str) else "no reason given"


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds the server asks us to wait; `None` when it does not say or says nonsense."""
    header = response.headers.get("retry-after", "").strip()
    if header.isdecimal():
        return float(header[:9])
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
