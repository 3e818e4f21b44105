"""ToolBench's numbers and error strings for the outcome of an action (interop 3.1).

7 and 8 are written as the reference's code writes them (7 Unauthorized, 8 Unsubscribed); its own
documentation has them the other way round.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from services.contracts.toolenv import CallStatus

CODE_OF_STATUS: Final[Mapping[CallStatus, int]] = MappingProxyType(
    {
        CallStatus.OK: 0,
        CallStatus.UNKNOWN_FUNCTION: 1,
        CallStatus.INVALID_ARGUMENTS: 2,
        CallStatus.FINISHED: 3,
        CallStatus.GAVE_UP: 4,
        CallStatus.TIMEOUT: 5,
        CallStatus.API_NOT_WORKING: 6,
        CallStatus.UNAUTHORIZED: 7,
        CallStatus.UNSUBSCRIBED: 8,
        CallStatus.TOO_MANY_REQUESTS: 9,
        CallStatus.RATE_LIMITED: 10,
        CallStatus.TOOL_ERROR: 11,
        CallStatus.REQUEST_FAILED: 12,
        CallStatus.SANDBOX_VIOLATION: 12,
        CallStatus.OUTPUT_LIMIT: 12,
        CallStatus.RESOURCE_LIMIT: 12,
        CallStatus.BLOCKED: 12,
        CallStatus.NOT_ALLOWED: 12,
        CallStatus.MODEL_ERROR: -1,
    }
)

_STATUS_OF_CODE: Final[Mapping[int, CallStatus]] = MappingProxyType(
    # Reversed, so that of the statuses that share number 12 the general one remains.
    {code: status for status, code in reversed(list(CODE_OF_STATUS.items()))}
)

STATUS_OF_ERROR_TEXT: Final[Mapping[str, CallStatus]] = MappingProxyType(
    {
        "Timeout error...": CallStatus.TIMEOUT,
        "API not working error...": CallStatus.API_NOT_WORKING,
        "Unauthorized error...": CallStatus.UNAUTHORIZED,
        "Unsubscribed error...": CallStatus.UNSUBSCRIBED,
        "Too many requests error...": CallStatus.TOO_MANY_REQUESTS,
        "Rate limit per minute error...": CallStatus.RATE_LIMITED,
        "Message error...": CallStatus.TOOL_ERROR,
    }
)
"""A backend's whole `error` string, compared exactly."""


def code_of(status: CallStatus) -> int:
    """ToolBench's number of a status; statuses it does not have share their nearest number."""
    return CODE_OF_STATUS[status]


def status_of(code: int) -> CallStatus:
    """The status of a number in an answer file.

    Raises:
        ValueError: The number is not one of -1 and 0 to 12.
    """
    try:
        return _STATUS_OF_CODE[code]
    except KeyError:
        raise ValueError(f"status code {code!r} is not one of -1 and 0 to 12") from None


def status_of_error_text(error: str) -> CallStatus:
    """What the reference's client makes of a backend's `error` string.

    Anything it does not know, the empty string included, counts as `OK`.
    """
    return STATUS_OF_ERROR_TEXT.get(error, CallStatus.OK)
