"""Context of one request: its id and its deadline, carried implicitly through every call.

`X-Deadline` on the wire is absolute Unix time in seconds with 3 decimals. It is turned into
monotonic time once, on receipt, so that a clock jump in mid-request changes nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from services.contracts.errors import DeadlineExceeded
from services.contracts.ids import RequestId

DEADLINE_HEADER = "X-Deadline"
REQUEST_ID_HEADER = "X-Request-Id"

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_request_id: ContextVar[RequestId | None] = ContextVar("request_id", default=None)


def remaining_s(*, at_most_s: float) -> float:
    """Seconds until the current deadline, but never more than `at_most_s`.

    Raises:
        DeadlineExceeded: The deadline has passed.
    """
    deadline = _deadline.get()
    if deadline is None:
        return at_most_s
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(f"the request's deadline passed {-left:.3f} s ago")
    return min(left, at_most_s)


@contextmanager
def deadline_in(seconds: float) -> Iterator[None]:
    """Run the block with a deadline `seconds` from now, or the one in force if that is earlier."""
    own = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(own if outer is None else min(own, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def request_scope(request_id: RequestId) -> Iterator[None]:
    """Run the block under a request id."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def current_request_id() -> RequestId | None:
    """The id of the request being served, if any."""
    return _request_id.get()


def outgoing_headers(*, timeout_s: float) -> dict[str, str]:
    """Headers that pass the context on to the next service, with `timeout_s` seconds to go."""
    headers = {DEADLINE_HEADER: f"{time.time() + timeout_s:.3f}"}
    request_id = _request_id.get()
    if request_id is not None:
        headers[REQUEST_ID_HEADER] = request_id
    return headers
