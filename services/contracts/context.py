"""Context of one request: its id, its deadline and its trace, carried through every call.

`X-Deadline` on the wire is absolute Unix time in seconds with 3 decimals. It is turned into
monotonic time once, on receipt, so that a clock jump in mid-request changes nothing.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from services.contracts.errors import DeadlineExceeded
from services.contracts.ids import RequestId

DEADLINE_HEADER = "X-Deadline"
REQUEST_ID_HEADER = "X-Request-Id"
TRACE_HEADER = "traceparent"

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_request_id: ContextVar[RequestId | None] = ContextVar("request_id", default=None)
_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
# W3C Trace Context, section 3.2.2: version 00, and ids that are not all zeros.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


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


@contextmanager
def trace_scope(traceparent: str) -> Iterator[None]:
    """Run the block below a span of a trace, in W3C's form; a malformed value changes nothing."""
    if not _TRACEPARENT.fullmatch(traceparent):
        yield
        return
    token = _traceparent.set(traceparent)
    try:
        yield
    finally:
        _traceparent.reset(token)


def current_traceparent() -> str | None:
    """The span in force in W3C's form, if a trace is taken."""
    return _traceparent.get()


def outgoing_headers(*, timeout_s: float) -> dict[str, str]:
    """Headers that pass the context on to the next service, with `timeout_s` seconds to go."""
    headers = {DEADLINE_HEADER: f"{time.time() + timeout_s:.3f}"}
    request_id = _request_id.get()
    if request_id is not None:
        headers[REQUEST_ID_HEADER] = request_id
    traceparent = _traceparent.get()
    if traceparent is not None:
        headers[TRACE_HEADER] = traceparent
    return headers
