"""Calls tools of MCP servers."""

import time
from typing import Protocol

import mcp_types as types
from pydantic import JsonValue

from services.contracts.context import remaining_s
from services.contracts.toolbench.names import api_identifier
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.egress.redaction import Redactor
from services.toolenv.endpoints import McpEndpoint
from services.toolenv.executors.base import Declined
from services.toolenv.executors.http_reply import without_secrets
from services.toolenv.invocation import Invocation
from services.toolenv.mcp_servers import McpProblem
from services.toolenv.mcp_servers.results import error_of, value_of
from services.toolenv.observation import failed, succeeded


class ToolServers(Protocol):
    """What this caller needs; `services.toolenv.mcp_servers.McpServers` is the real one."""

    async def call(
        self, server: str, tool: str, arguments: dict[str, JsonValue], *, limit_s: float
    ) -> types.CallToolResult | types.InputRequiredResult:
        """See `McpServers.call`."""
        ...

    def redactor(self, server: str) -> Redactor:
        """See `McpServers.redactor`."""
        ...


class McpCaller:
    """See `Caller`; for `McpEndpoint`."""

    def __init__(self, servers: ToolServers, *, call_timeout_s: float = 60.0) -> None:
        """Use servers; the caller opens and closes them.

        Args:
            servers: Where the tools are.
            call_timeout_s: Longest time for one call, the server's start included, seconds; the
                request's deadline may shorten it.
        """
        self._servers = servers
        self._call_timeout_s = call_timeout_s

    async def call(self, invocation: Invocation) -> Observation | Declined:
        """See `Caller.call`."""
        endpoint = invocation.entry.endpoint
        if not isinstance(endpoint, McpEndpoint):
            return Declined(f"{invocation.entry.document.ref} is no tool of an MCP server")
        limit_s = remaining_s(at_most_s=self._call_timeout_s)
        started = time.perf_counter()
        try:
            reply = await self._servers.call(
                endpoint.server, endpoint.tool, verbatim_arguments(invocation), limit_s=limit_s
            )
        except McpProblem as problem:
            text = self._servers.redactor(endpoint.server).in_text(str(problem))
            return _failure(problem, text, latency_s=time.perf_counter() - started)
        redactor = self._servers.redactor(endpoint.server)
        return _observe(reply, redactor, latency_s=time.perf_counter() - started)


def verbatim_arguments(invocation: Invocation) -> dict[str, JsonValue]:
    """The arguments under the names that the upstream declared."""
    document = invocation.entry.document
    names: dict[str, str] = {}
    for parameter in document.required_parameters + document.optional_parameters:
        names.setdefault(api_identifier(parameter.name), parameter.name)
    return {names[name]: value for name, value in (invocation.arguments or {}).items()}


def _failure(problem: McpProblem, text: str, *, latency_s: float) -> Observation | Declined:
    if problem.status is CallStatus.TIMEOUT:
        return failed(problem.status, f"Timeout: {text}", latency_s=latency_s)
    if not problem.is_sent and problem.status is not CallStatus.UNAUTHORIZED:
        return Declined(text)
    is_tools_own = problem.status in (CallStatus.TOOL_ERROR, CallStatus.INVALID_ARGUMENTS)
    return failed(
        problem.status,
        text,
        source="live" if is_tools_own else "error",
        latency_s=latency_s,
    )


def _observe(
    reply: types.CallToolResult | types.InputRequiredResult,
    redactor: Redactor,
    *,
    latency_s: float,
) -> Observation:
    if isinstance(reply, types.InputRequiredResult):
        text = "the tool asks its user for input, which is not possible here"
        return failed(CallStatus.TOOL_ERROR, text, source="live", latency_s=latency_s)
    if reply.is_error:
        text = redactor.in_text(error_of(reply))
        return failed(CallStatus.TOOL_ERROR, text, source="live", latency_s=latency_s)
    try:
        value = without_secrets(value_of(reply), redactor)
    except RecursionError:
        text = "the answer is nested too deeply"
        return failed(CallStatus.OUTPUT_LIMIT, text, source="live", latency_s=latency_s)
    return succeeded(value, source="live", latency_s=latency_s)
