"""What a sandboxed call can come back with.

Standard library only: the worker inside the sandbox names outcomes with the same enum.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.toolenv.sandbox.frames import JsonValue


class SandboxUnavailable(Exception):
    """No safe sandbox can be opened here; the text names the failed step or probe and its fix."""


class SandboxOutcome(StrEnum):
    """How one call ended; everything but `OK` leaves `SandboxResult.value` None."""

    OK = "ok"
    TOOL_ERROR = "tool_error"
    TIMEOUT = "timeout"
    CPU_LIMIT = "cpu_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    VIOLATION = "violation"
    CRASHED = "crashed"
    PROTOCOL_ERROR = "protocol_error"
    UNKNOWN_FUNCTION = "unknown_function"
    BAD_ARGUMENTS = "bad_arguments"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """Outcome of one call.

    Attributes:
        outcome: How it ended.
        value: The function's JSON result; None unless the outcome is `OK` (and also when the
            function returned None).
        error: Empty when ok; for `TOOL_ERROR` the exception as "ValueError: text", at most 2,000
            characters.
        stdout: What the tool printed (stdout and stderr in order), cut at the output limit; empty
            when the worker was killed before it could report.
        latency_s: Seconds from the request to this result, waiting for a worker included.
        cpu_s: Processor seconds used, None when unknown. The tool may falsify it when it ends by
            itself.
    """

    outcome: SandboxOutcome
    value: JsonValue
    error: str
    stdout: str
    latency_s: float
    cpu_s: float | None
