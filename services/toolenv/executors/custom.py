"""Executes a tool's `api.py`, only ever inside the sandbox."""

import asyncio
import json
from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn, Protocol

from services.contracts.apis import ApiDocument
from services.contracts.context import remaining_s
from services.contracts.errors import Unavailable
from services.contracts.toolbench.names import api_identifier
from services.contracts.toolenv import CallStatus, Observation, ObservationSource
from services.toolenv.catalog import CatalogueEntry
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
    SandboxOutcome.BAD_ARGUMENTS: _Meaning(CallStatus.TOOL_ERROR, "custom", ""),
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

    def __init__(self, sandbox: ToolSandbox, *, call_timeout_s: float = 30.0) -> None:
        """Use a sandbox; the caller owns and closes it.

        Args:
            sandbox: Where the code runs.
            call_timeout_s: Longest time for one call, seconds; the request's deadline may shorten
                it.
        """
        self._sandbox = sandbox
        self._call_timeout_s = call_timeout_s

    def refusal(self, api: CatalogueEntry) -> str | None:
        """See `Executor.refusal`."""
        if api.code is not None:
            return None
        ref = api.document.ref
        return f"no api.py for {ref}: {ref.category}/{ref.tool}/api.py is missing"

    async def execute(self, api: CatalogueEntry, arguments_text: str) -> Observation:
        """See `Executor.execute`."""
        if api.code is None:
            return failed(CallStatus.API_NOT_WORKING, f"API not working: {self.refusal(api)}")
        try:
            arguments = parse_arguments(arguments_text)
        except ValueError as exc:
            return failed(CallStatus.INVALID_ARGUMENTS, f"Tool input parse error: {exc}")
        accepted = parameter_names(api.document)
        unknown = [name for name in arguments if name not in accepted]
        if unknown:
            return failed(
                CallStatus.TOOL_ERROR,
                f"TypeError: {api.document.ref.api} has no parameter "
                f"{', '.join(repr(name[:80]) for name in unknown[:10])}; {_accepts(accepted)}",
                source="custom",
            )
        limit_s = remaining_s(at_most_s=self._call_timeout_s)
        result = await self._run(api.code.source, api.document.ref.api, arguments, limit_s)
        return _observe(result, accepted=accepted, limit_s=limit_s)

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


def parse_arguments(text: str) -> dict[str, JsonValue]:
    """The model's arguments as an object; empty text is the empty object, as in the reference.

    Raises:
        ValueError: The text is not a JSON object; the message says what is wrong with it.
    """
    if not text.strip():
        return {}
    try:
        arguments = json.loads(text, parse_constant=_not_json)
        # What cannot be written back as JSON (1e999, half a surrogate pair) cannot be handed over.
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()
    except RecursionError as exc:
        raise ValueError("the arguments are nested too deeply") from exc
    except ValueError as exc:
        raise ValueError(f"the arguments are not JSON: {exc}") from exc
    if not isinstance(arguments, dict):
        kind = type(arguments).__name__
        raise ValueError(f'the arguments must be a JSON object such as {{"name": 1}}, not a {kind}')
    return arguments


def parameter_names(document: ApiDocument) -> tuple[str, ...]:
    """Keyword arguments that the API's function takes: its parameters in standard form."""
    declared = document.required_parameters + document.optional_parameters
    return tuple(dict.fromkeys(api_identifier(parameter.name) for parameter in declared))


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _accepts(names: tuple[str, ...]) -> str:
    return f"it accepts {', '.join(names)}" if names else "it accepts no parameters"


def _observe(result: SandboxResult, *, accepted: tuple[str, ...], limit_s: float) -> Observation:
    if result.outcome is SandboxOutcome.OK:
        return succeeded(result.value, source="custom", latency_s=result.latency_s)
    meaning = _MEANINGS[result.outcome]
    error = meaning.error + (result.error or result.outcome.value)
    if result.outcome is SandboxOutcome.BAD_ARGUMENTS:
        error = f"{error}; {_accepts(accepted)}"
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
