"""Executes a tool's `api.py`, only ever inside the sandbox."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from services.contracts.apis import ApiDocument
from services.contracts.context import remaining_s
from services.contracts.errors import Unavailable
from services.contracts.toolbench.names import api_identifier, python_identifier
from services.contracts.toolenv import CallSource, CallStatus, Observation, ObservationSource
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.egress.errors import EgressRefused
from services.toolenv.egress.policy import EgressPolicy
from services.toolenv.executors.base import Declined
from services.toolenv.executors.http_outcomes import LABELS
from services.toolenv.failures import classify
from services.toolenv.invocation import Invocation, accepts, check_names
from services.toolenv.observation import Keep, failed, succeeded
from services.toolenv.sandbox import JsonValue, SandboxOutcome, SandboxResult

_SANDBOX_GRACE_S = 5.0  # the sandbox ends every call itself; this ends the wait if it hangs


class ToolSandbox(Protocol):
    """What this executor needs of a sandbox; `services.toolenv.sandbox.Sandbox` is the real one."""

    async def call(
        self,
        *,
        source: str,
        function: str,
        arguments: Mapping[str, JsonValue],
        deadline_s: float,
        egress: EgressPolicy | None,
        dependencies: tuple[str, ...],
    ) -> SandboxResult:
        """Run one function of `source` for at most `deadline_s` seconds; see `Sandbox.call`."""
        ...


EgressOf = Callable[[CatalogueEntry, str | None], EgressPolicy | None]
"""The network of one call, by API and user; `None` for none."""


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


# Exceptions of requests, httpx, urllib and http.client, and of the sandbox's place-holders in them.
_TIMEOUTS: Final = frozenset(
    {"Timeout", "ReadTimeout", "ConnectTimeout", "WriteTimeout", "PoolTimeout", "TimeoutError"}
    | {"EgressTimeout", "ReadTimeoutError"}
)
_BROKEN: Final = frozenset(
    {"ConnectionError", "ConnectError", "ReadError", "WriteError", "URLError", "EgressError"}
    | {"SSLError", "ProxyError", "ProtocolError", "RemoteProtocolError", "RemoteDisconnected"}
    | {"ConnectionResetError", "ChunkedEncodingError", "IncompleteRead", "MaxRetryError"}
)
_OF_STATUS: Final = frozenset({"HTTPError", "HTTPStatusError"})
_HTTP_STATUS: Final = re.compile(r"\b[45]\d\d\b")
_REFUSED: Final = "egress refused"


class CustomExecutor:
    """Runs the function of `api.py` that has the API's standard name."""

    source: CallSource = "custom"

    def __init__(
        self,
        sandbox: ToolSandbox,
        *,
        call_timeout_s: float = 30.0,
        egress_of: EgressOf = lambda _entry, _user: None,
        keep: Keep | None = None,
    ) -> None:
        """Use a sandbox; the caller owns and closes it.

        Args:
            sandbox: Where the code runs.
            call_timeout_s: Longest time for one call, seconds; the request's deadline may shorten
                it.
            egress_of: Which hosts the code may reach.
            keep: Where an answer goes that is too long to show.
        """
        self._sandbox = sandbox
        self._call_timeout_s = call_timeout_s
        self._egress_of = egress_of
        self._keep = keep

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
        try:
            egress = self._egress_of(api, invocation.user)
        except EgressRefused as exc:
            return failed(CallStatus.API_NOT_WORKING, f"API not working: {exc}")
        call = SandboxCall(
            source=api.code.source,
            function=python_identifier(ref.api),
            arguments={python_identifier(k): v for k, v in invocation.arguments.items()},
            egress=egress,
            dependencies=api.dependencies,
        )
        result = await run_call(self._sandbox, call, limit_s=limit_s)
        accepted = accepts(parameter_names(api.document))
        observation = observed(result, accepted=accepted, limit_s=limit_s, keep=self._keep)
        return observation if egress is None else _classified(observation, result, api.document)


class SandboxCall(NamedTuple):
    """One function to run in the sandbox."""

    source: str
    function: str
    arguments: Mapping[str, JsonValue]
    egress: EgressPolicy | None = None
    dependencies: tuple[str, ...] = ()


async def run_call(sandbox: ToolSandbox, call: SandboxCall, *, limit_s: float) -> SandboxResult:
    """Run a call for at most `limit_s` seconds.

    Raises:
        Unavailable: The sandbox cannot run calls, or did not end this one.
    """
    try:
        async with asyncio.timeout(limit_s + _SANDBOX_GRACE_S):
            result = await sandbox.call(**call._asdict(), deadline_s=limit_s)
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


def observed(
    result: SandboxResult, *, accepted: str, limit_s: float, keep: Keep | None
) -> Observation:
    """What the sandbox's result means to a caller.

    Args:
        result: Any but `UNAVAILABLE`.
        accepted: What arguments the function takes, in words, for one that was given others.
        limit_s: What the call was allowed, seconds.
        keep: Where an answer goes that is too long to show.
    """
    if result.outcome is SandboxOutcome.OK:
        return succeeded(result.value, source="custom", latency_s=result.latency_s, keep=keep)
    meaning = _MEANINGS[result.outcome]
    error = meaning.error + (result.error or result.outcome.value)
    if result.outcome is SandboxOutcome.BAD_ARGUMENTS:
        error = f"{error}; {accepted}"
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


def _classified(
    observation: Observation, result: SandboxResult, document: ApiDocument
) -> Observation:
    """The observation of code that asked a web API, whose failures ToolBench's code passes on."""
    if result.outcome is SandboxOutcome.TOOL_ERROR:
        status = _status_of_exception(result.error)
        if status is CallStatus.TOOL_ERROR:
            return observation
        text = f"{LABELS[status]}: {result.error}"
        return failed(status, text, latency_s=result.latency_s)
    if observation.status is not CallStatus.OK:
        return observation
    expects_object = isinstance(document.template_response, dict | list)
    verdict = classify(200, result.value, expects_object=expects_object)
    if verdict.status is CallStatus.OK:
        return observation
    return failed(
        verdict.status,
        verdict.message or verdict.status.value.replace("_", " "),
        response=result.value,
        source="custom",
        latency_s=result.latency_s,
    )


def _status_of_exception(error: str) -> CallStatus:
    """What an exception says that code let pass: that no answer came, or `TOOL_ERROR`.

    A failure of the network tells of the moment. Taken for the API's own answer it would be
    recorded, and replayed for ever.
    """
    name, _, text = error.partition(": ")
    if name in _TIMEOUTS:
        return CallStatus.TIMEOUT
    if name in _BROKEN:
        return CallStatus.API_NOT_WORKING if _REFUSED in text else CallStatus.REQUEST_FAILED
    found = _HTTP_STATUS.search(text) if name in _OF_STATUS else None
    return CallStatus.TOOL_ERROR if found is None else classify(int(found.group()), text).status
