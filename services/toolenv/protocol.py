"""ToolBench's tool protocol: the request, and what a reply's error text means (interop 3.1, 3.2).

The reference knows six error texts and calls every other reply a success, real errors included.
`status_of_error` reproduces that on request; otherwise it reads the texts that ToolBench and
StableToolBench backends are known to send, and takes any other non-empty text as the tool's error.
"""

from typing import Final

from pydantic import JsonValue

from services.contracts.apis import ApiDocument
from services.contracts.toolbench.codes import STATUS_OF_ERROR_TEXT
from services.contracts.toolenv import CallStatus

INVALID_DATA_ERROR: Final = "request invalid, data error"
TIMEOUT_ERROR: Final = "Timeout error..."

# The time-out text is the reference client's own; it never looks for it in a backend's reply.
_REFERENCE: Final = {
    text: status for text, status in STATUS_OF_ERROR_TEXT.items() if text != TIMEOUT_ERROR
}
_KNOWN: Final = _REFERENCE | {
    "": CallStatus.OK,
    "API temporarily not working error...": CallStatus.API_NOT_WORKING,
    "Blocked error...": CallStatus.UNAUTHORIZED,
    "Gateway error...": CallStatus.REQUEST_FAILED,
    "Rate limit error...": CallStatus.RATE_LIMITED,
    "Tool input parse error...": CallStatus.INVALID_ARGUMENTS,
    "Failed to generate fake response": CallStatus.REQUEST_FAILED,
    TIMEOUT_ERROR: CallStatus.TIMEOUT,
}


def request_payload(
    document: ApiDocument, arguments_text: str, *, toolbench_key: str, strip: str
) -> dict[str, JsonValue]:
    """Body of a call: the model's arguments stay one string, verbatim."""
    return {
        "category": document.category_name,
        "tool_name": document.ref.tool,
        "api_name": document.ref.api,
        "tool_input": arguments_text,
        "strip": strip,
        "toolbench_key": toolbench_key,
    }


def status_of_error(error: JsonValue, *, as_reference: bool) -> CallStatus:
    """What a reply's `error` says about the call.

    Args:
        error: Value of the key; text in every known backend.
        as_reference: Compare exactly with the reference's six texts and take the rest as success.
    """
    if as_reference:
        return _REFERENCE.get(error, CallStatus.OK) if isinstance(error, str) else CallStatus.OK
    if error is None:
        return CallStatus.OK
    return (
        _KNOWN.get(error.strip(), CallStatus.TOOL_ERROR)
        if isinstance(error, str)
        else (CallStatus.TOOL_ERROR)
    )
