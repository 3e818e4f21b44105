"""ToolBench's tool protocol: the request, and what a reply's error text means (interop 3.1, 3.2).

The reference knows six error texts and calls every other reply a success, real errors included.
`status_of_error` reproduces that on request; otherwise it reads the texts that ToolBench and
StableToolBench backends are known to send, and takes any other non-empty text as the tool's error.
`error_of_status` goes the other way, for our own replies to such a client.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.toolbench.codes import STATUS_OF_ERROR_TEXT
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category
from services.contracts.toolenv import CallStatus

INVALID_DATA_ERROR: Final = "request invalid, data error"
TIMEOUT_ERROR: Final = "Timeout error..."
PARSE_ERROR: Final = "Tool input parse error...\n"
"""The line feed belongs to it."""
NOT_WORKING_ERROR: Final = "API not working error..."
CHAT_API: Final = "chat_with_user"
"""Name of an API that every ToolBench backend answers without a tool."""
CHAT_RESPONSE: Final = "Chat with user."
MAX_RESPONSE_CHARS: Final = 2048
"""What `/rapidapi` returns of a response."""

# The time-out text is the reference client's own; it never looks for it in a backend's reply.
_REFERENCE: Final = {
    text: status for text, status in STATUS_OF_ERROR_TEXT.items() if text != TIMEOUT_ERROR
}
_KNOWN: Final = _REFERENCE | {
    "": CallStatus.OK,
    "API temporarily not working error...": CallStatus.API_NOT_WORKING,
    "Blocked error...": CallStatus.BLOCKED,
    "Gateway error...": CallStatus.REQUEST_FAILED,
    "Rate limit error...": CallStatus.RATE_LIMITED,
    "Tool input parse error...": CallStatus.INVALID_ARGUMENTS,
    "Failed to generate fake response": CallStatus.REQUEST_FAILED,
    TIMEOUT_ERROR: CallStatus.TIMEOUT,
}
# A later text replaces an earlier one of the same status, so the reference's own come last.
_TEXT_OF_STATUS: Final = {
    status: text
    for text, status in (
        ("Gateway error...", CallStatus.REQUEST_FAILED),
        ("Blocked error...", CallStatus.BLOCKED),
        *STATUS_OF_ERROR_TEXT.items(),
    )
}
_IN_CODE: Final = frozenset(
    {
        CallStatus.TOOL_ERROR,
        CallStatus.INVALID_ARGUMENTS,
        CallStatus.SANDBOX_VIOLATION,
        CallStatus.RESOURCE_LIMIT,
    }
)
"""Outcomes for which the reference names the import it was executing."""

# First match wins; each row is what a value's text may hold and the error it then gets.
_CLASSES: Final = (
    (
        ("Your Client (working) ---> Gateway (working) ---> API (not working)",),
        NOT_WORKING_ERROR,
    ),
    (("Unauthorized", "unauthorized"), "Unauthorized error..."),
    (("You are not subscribed to this API.",), "Unsubscribed error..."),
    (("Too many requests",), "Too many requests error..."),
    (
        (
            "You have exceeded",
            "you are being rate limited",
            "Access restricted. Check credits balance or enter the correct API key.",
        ),
        "Rate limit error...",
    ),
    (("Oops, an error in the gateway has occurred.",), "Gateway error..."),
    (("Blocked User. Please contact your API provider.",), "Blocked error..."),
    (("error",), "Message error..."),
)


class NamedApi(NamedTuple):
    """Names under which a catalogue may know an API, raw or in standard form."""

    category: str
    tool: str
    api: str


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


def names_of_api(category: str, tool_name: str, api_name: str) -> Iterator[NamedApi]:
    """The API that a payload names, best reading first (interop 3.2 step 1, 3.3 step 1).

    The reference cuts `_for_<category>` off the tool and, in StableToolBench, `_for_<tool>` off the
    API, whatever the catalogue holds. The names as they stand come first here, so that an API whose
    own name contains `_for_` stays reachable; the cut ones follow.
    """
    yield NamedApi(category, tool_name, api_name)
    suffix = f"_for_{standardize_category(category)}"
    tool = tool_name.removesuffix(suffix)
    api = standardize(api_name)
    for owner in (tool_name, standardize(tool_name), standardize(tool)):
        api = api.split(f"_for_{owner}", 1)[0] if owner else api
    if tool != tool_name:
        yield NamedApi(category, tool, api_name)
    if api != standardize(api_name):
        yield NamedApi(category, tool, api)


def is_chat(api_name: str) -> bool:
    """Whether a payload asks for the API that needs no tool."""
    # The cheap test first: it runs for every request.
    return "hat" in api_name and api_identifier(api_name).split("_for_", 1)[0] == CHAT_API


def is_known_error(error: str, status: CallStatus) -> bool:
    """Whether this text already says this status to whoever reads ToolBench's replies."""
    return _KNOWN.get(error.strip()) is status


def error_of_status(status: CallStatus, *, ref: ApiRef, detail: str, in_code: bool) -> str | None:
    """The `error` text of a ToolBench reply whose client shall derive `status`.

    Args:
        status: Outcome; not `OK`.
        ref: The API that was called.
        detail: Our own words about it.
        in_code: Whether an `api.py` was executed, where the reference quotes the import.

    Returns:
        The text; `None` where the protocol has none, so that our own words have to do: its client
        takes them for an ordinary answer (code 0).
    """
    if in_code and status in _IN_CODE:
        module = f"data.toolenv.tools.{ref.category}.{ref.tool}.api"
        return f"Function executing from {module} import {ref.api} error...\n{detail}"
    return _TEXT_OF_STATUS.get(status)


def classify_as_reference(text: str) -> str:
    """The `error` text that the reference gives a returned value, from the value's own text.

    It finds `error` in perfectly good answers too (interop 10, number 21): only for comparing with
    published numbers.

    Args:
        text: `str()` of what the API returned.
    """
    for fragments, error in _CLASSES:
        if any(fragment in text for fragment in fragments):
            return error
    return ""
