"""Error taxonomy shared by all services, and its wire form.

Two kinds of failure are kept apart:

* A tool that answers badly is data: an `Observation` whose status is not `ok`.
* A service that cannot do its job raises `ServiceError`; the caller sees the same class whether the
  service runs in this process or behind HTTP.

    ServiceError
      InvalidArgument      400   the request is wrong; do not retry
      NotFound             404
      FailedPrecondition   409   the state does not allow it (an index of another model, say)
      PayloadTooLarge      413   the request exceeds a size limit
      ResourceExhausted    429   a queue is full; retry after a pause
      Internal             500   our bug
      Unavailable          503   a dependency cannot be reached; retry with back-off
      DeadlineExceeded     504   retry if idempotent

Codes follow google.rpc.Code where it has one; the body follows RFC 9457 (problem details).
"""

from typing import ClassVar

from services.contracts.base import ForeignModel


class Problem(ForeignModel):
    """Wire form of a `ServiceError` (RFC 9457 problem details plus `code`)."""

    code: str
    title: str
    status: int
    detail: str


class ServiceError(Exception):
    """Base of every error a service raises on purpose.

    Attributes:
        code: Stable machine-readable name; part of the contract.
        http_status: Status used when the error crosses HTTP.
        retryable: Whether the same request may succeed later unchanged.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def to_problem(self) -> Problem:
        """Return the wire form; it never contains a traceback or a secret."""
        title = self.code.replace("_", " ").capitalize()
        return Problem(code=self.code, title=title, status=self.http_status, detail=self.detail)


class InvalidArgument(ServiceError):
    """The request violates the contract."""

    code, http_status = "invalid_argument", 400


class NotFound(ServiceError):
    """The named thing does not exist."""

    code, http_status = "not_found", 404


class FailedPrecondition(ServiceError):
    """The state of the service does not allow the operation; the detail says what to do first."""

    code, http_status = "failed_precondition", 409


class PayloadTooLarge(ServiceError):
    """The request exceeds a size limit."""

    code, http_status = "payload_too_large", 413


class ResourceExhausted(ServiceError):
    """A bounded queue or budget is full."""

    code, http_status, retryable = "resource_exhausted", 429, True


class Internal(ServiceError):
    """A defect on our side."""


class Unavailable(ServiceError):
    """A dependency cannot be reached at the moment."""

    code, http_status, retryable = "unavailable", 503, True


class DeadlineExceeded(ServiceError):
    """The work did not finish within its time budget."""

    code, http_status, retryable = "deadline_exceeded", 504, True


_CLASSES: tuple[type[ServiceError], ...] = (
    InvalidArgument,
    NotFound,
    FailedPrecondition,
    PayloadTooLarge,
    ResourceExhausted,
    Internal,
    Unavailable,
    DeadlineExceeded,
)
_BY_CODE = {cls.code: cls for cls in _CLASSES}


def from_problem(problem: Problem) -> ServiceError:
    """Rebuild the error a remote service raised; an unknown code becomes `Internal`."""
    return _BY_CODE.get(problem.code, Internal)(problem.detail)
