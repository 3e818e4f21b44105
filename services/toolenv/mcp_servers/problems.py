"""Why a call of an MCP tool gave no answer."""

from typing import Final

import mcp_types as types
from mcp.shared.exceptions import MCPError

from services.contracts.toolenv import CallStatus
from services.toolenv.mcp_servers.fate import HTTP_FAILED, TOO_LARGE

_MAX_TEXT_CHARS = 2000


class McpProblem(Exception):
    """A call that failed; data for the executor, never seen by callers of the service.

    Attributes:
        status: The observation's status.
        is_sent: Whether the tool may have seen the call.
    """

    def __init__(self, status: CallStatus, text: str, *, is_sent: bool) -> None:
        super().__init__(text)
        self.status = status
        self.is_sent = is_sent


def not_sent(text: str) -> McpProblem:
    """The server cannot be reached now, and the call has gone nowhere."""
    return McpProblem(CallStatus.API_NOT_WORKING, text, is_sent=False)


def problem_of(exc: MCPError, *, is_sent: bool) -> McpProblem:
    """What an error answer means, the server's or the one our transport gave in its place."""
    text = exc.message[:_MAX_TEXT_CHARS]
    status = CallStatus.TOOL_ERROR
    if exc.code == types.CONNECTION_CLOSED:
        # "byte limit": the SDK's words for an event that is too long.
        is_long = "byte limit" in text
        status = CallStatus.OUTPUT_LIMIT if is_long else CallStatus.REQUEST_FAILED
    elif exc.code == TOO_LARGE:
        status = CallStatus.OUTPUT_LIMIT
    elif exc.code == HTTP_FAILED and isinstance(exc.data, dict):
        status = _STATUS_OF_HTTP.get(exc.data.get("status"), CallStatus.REQUEST_FAILED)
        is_sent = is_sent and exc.data.get("sent") is not False
    elif exc.code == types.INVALID_PARAMS:
        status = CallStatus.INVALID_ARGUMENTS
    return McpProblem(status, text, is_sent=is_sent)


_STATUS_OF_HTTP: Final[dict[object, CallStatus]] = {
    401: CallStatus.UNAUTHORIZED,
    403: CallStatus.UNAUTHORIZED,
    402: CallStatus.UNSUBSCRIBED,
    429: CallStatus.TOO_MANY_REQUESTS,
}
