"""Executes a tool's `api.py`, only ever inside the sandbox."""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from services.contracts.apis import ApiDocument
from services.contracts.context import remaining_s
from services.contracts.errors import Unavailable
from services.contracts.toolbench.names import api_identifier
from services.contracts.toolenv import CallSource, CallStatus, Observation, ObservationSource
from services.toolenv.executors.base import Declined
from services.toolenv.invocation import Invocation, accepts, check_names
from services.toolenv.observation import failed, succeeded
from services.toolenv.sandbox import JsonValue, SandboxOutcome, SandboxResult

_SANDBOX_GRACE_S = 5.0  # the sandbox ends every call itself; this ends the wait if it hangs


class ToolSandbox(Protocol):
    """What this executor needs of a sandbox; `services.toolenv.sandbox.Sandbox` is the real one."""

    async def call(
        self, *, source: str, function: str, arguments: Mapping[str, JsonValue], deadline_s: float
    ) -> SandboxResult:
        """Run one function of `source` for at most `deadline_s` seconds."""
        ...


class _Meaning(NamedTuple):
    status: CallStatus
    source: ObservationSource
    error: str
    """Start of the observation's error text; the sandbox's own words follow it."""


_MEANINGS: Final = {
    SandboxOutcome.TOOL_ERROR: _Meaning(CallStatus.TOOL_ERROR, "custom", ""),
    SandboxOutcome.BAD_ARGUMENTS: _Meaning(CallStatus.INVALID_ARGUMENTS, "custom", ""),
    SandboxOutcome.UNKNOWN_FUNCTION: _Meaning(
        CallStatus.API_NOT_WORKING, "error", "API not working: "
    ),
    SandboxOutcome.TIMEOUT: _Meaning(CallStatus.TIMEOUT, "error", "Timeout: "),
    SandboxOutcome.OUTPUT_LIMIT: _Meaning(CallStatus.OUTPUT_LIMIT, "custom", "Output limit: "),
    SandboxOutcome.CPU_LIMIT: _Meaning(CallStatus.RESOURCE_LIMIT, "error", "Processor limit: "),
    SandboxOutcome.MEMORY_LIMIT: _Meaning(CallStatus.RESOURCE_LIMIT, "error", "Memory limit: "),
    SandboxOutcome.CRASHED: _Meaning(CallStatus.RESOURCE_LIMIT, "error", "The tool crashed: "),
    SandboxOutcome.VIOLATION: _Meaning(
        CallStatus.SANDBOX_VIOLATION, "custom", "Refused by the sandbox: "
    ),
    SandboxOutcome.PROTOCOL_ERROR: _Meaning(
        CallStatus.REQUEST_FAILED, "error", "The tool broke the sandbox's protocol: "
    ),
}


class CustomExecutor:
    """Runs the function of `api.py` that has the API's standard name."""

    source: CallSource = "custom"

    def __init__(self, sandbox: ToolSandbox, *, call_timeout_s: float = 30.0) -> None:
        """Use a sandbox; the caller owns and closes it.

        Args:
            sandbox: Where the code runs.
            call_timeout_s: Longest time for one call, seconds; the request's deadline may shorten
                it.
        """
        self._sandbox = sandbox
        self._call_timeout_s = call_timeout_s

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        """See `Executor.execute`."""
        api = invocation.entry
        ref = api.document.ref
        if api.code is None:
            return Declined(f"no api.py for {ref}: {ref.category}/{ref.tool}/api.py is missing")
        if invocation.arguments is None:
            return failed(
                CallStatus.INVALID_ARGUMENTS, f"Tool input parse error: {invocation.problem}"
            )
        mismatch = check_names(invocation)
        if mismatch:
            return failed(CallStatus.INVALID_ARGUMENTS, mismatch, source="custom")
        limit_s = remaining_s(at_most_s=self._call_timeout_s)
        result = await self._run(api.code.source, ref.api, invocation.arguments, limit_s)
        return _observe(result, accepted=parameter_names(api.document), limit_s=limit_s)

    async def _run(
        self, source: str, function: str, arguments: dict[str, JsonValue], limit_s: float
    ) -> SandboxResult:
        try:
            async with asyncio.timeout(limit_s + _SANDBOX_GRACE_S):
                result = await self._sandbox.call(
                    source=source, function=function, arguments=arguments, deadline_s=limit_s
                )
        except TimeoutError as exc:
            raise Unavailable(
                f"the sandbox did not end a call {_SANDBOX_GRACE_S} s after its limit of "
                f"{limit_s:.1f} s"
            ) from exc
        if result.outcome is SandboxOutcome.UNAVAILABLE:
            raise Unavailable(f"the sandbox cannot run calls: {result.error}")
        return result


def parameter_names(document: ApiDocument) -> tuple[str, ...]:
    """Keyword arguments that the API's function takes: its parameters in standard form."""
    declared = document.required_parameters + document.optional_parameters
    return tuple(dict.fromkeys(api_identifier(parameter.name) for parameter in declared))


def _observe(result: SandboxResult, *, accepted: tuple[str, ...], limit_s: float) -> Observation:
    if result.outcome is SandboxOutcome.OK:
        return succeeded(result.value, source="custom", latency_s=result.latency_s)
    meaning = _MEANINGS[result.outcome]
    error = meaning.error + (result.error or result.outcome.value)
    if result.outcome is SandboxOutcome.BAD_ARGUMENTS:
        error = f"{error}; {accepts(accepted)}"
    if result.outcome is SandboxOutcome.TIMEOUT:
        error = f"{meaning.error}the tool did not answer within {limit_s:.3g} s"
    printed = result.stdout if result.outcome is SandboxOutcome.OUTPUT_LIMIT else ""
    return failed(
        meaning.status,
        error,
        response=printed,
        source=meaning.source,
        latency_s=result.latency_s,
    )
