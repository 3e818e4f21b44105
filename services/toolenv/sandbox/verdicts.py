"""What a worker's end or last message means to the caller."""

from __future__ import annotations

import json
import os
import signal
from typing import NamedTuple

from services.toolenv.sandbox.frames import JsonValue
from services.toolenv.sandbox.policy import SandboxLimits
from services.toolenv.sandbox.results import SandboxOutcome, SandboxResult
from services.toolenv.sandbox.workers import WorkerExit

_MAX_ERROR_CHARS = 2000
# A worker may claim these; the others are the host's own observations.
_CLAIMABLE = frozenset(
    {
        SandboxOutcome.OK,
        SandboxOutcome.TOOL_ERROR,
        SandboxOutcome.MEMORY_LIMIT,
        SandboxOutcome.OUTPUT_LIMIT,
        SandboxOutcome.VIOLATION,
        SandboxOutcome.UNKNOWN_FUNCTION,
        SandboxOutcome.BAD_ARGUMENTS,
    }
)
_MAX_CPU_S = 1e6  # beyond any limit: a forged value
_RESULT_KEYS = {"t", "outcome", "value", "error", "stdout", "cpu_s"}


class Verdict(NamedTuple):
    """Outcome and explanation."""

    outcome: SandboxOutcome
    error: str


def judge_exit(end: WorkerExit | None, limits: SandboxLimits) -> Verdict:
    """What it means that a worker ended without a result."""
    if end is None:
        return Verdict(
            SandboxOutcome.UNAVAILABLE,
            "the sandbox's zygote died during the call and is being restarted",
        )
    if not os.WIFSIGNALED(end.status):
        code = os.WEXITSTATUS(end.status)
        return Verdict(
            SandboxOutcome.CRASHED, f"the tool exited with status {code} before returning a result"
        )
    number = os.WTERMSIG(end.status)
    if number == signal.SIGSYS:
        return Verdict(
            SandboxOutcome.VIOLATION, "the tool made a forbidden system call and was killed"
        )
    if number == signal.SIGXCPU or (number == signal.SIGKILL and end.cpu_s >= limits.cpu_s):
        return Verdict(
            SandboxOutcome.CPU_LIMIT, f"the call used more than {limits.cpu_s} s of processor time"
        )
    if number == signal.SIGKILL:
        return Verdict(
            SandboxOutcome.CRASHED,
            "killed by SIGKILL, by itself or by the kernel's out-of-memory killer",
        )
    return Verdict(SandboxOutcome.CRASHED, f"the tool's process died of {_signal_name(number)}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def judge_message(
    message: dict[str, JsonValue], limits: SandboxLimits, *, frame_bytes: int
) -> SandboxResult:
    """Turn a worker's last message, of `frame_bytes` bytes, into the result.

    Nothing but its shape and size is believed.
    """
    outcome, error, stdout = message.get("outcome"), message.get("error"), message.get("stdout")
    if message.get("t") != "result" or set(message) != _RESULT_KEYS:
        return _forged("a frame that is not a result")
    if not (isinstance(outcome, str) and isinstance(error, str) and isinstance(stdout, str)):
        return _forged("a result whose texts are not texts")
    if outcome not in _CLAIMABLE:
        return _forged(f"the outcome {outcome[:40]!r}")
    if frame_bytes > limits.result_bytes and _size(message["value"]) > limits.result_bytes:
        return _forged(f"a result larger than {limits.result_bytes} bytes")
    is_ok = outcome == SandboxOutcome.OK
    if not is_ok and not error:
        return _forged("a failure without a reason")
    return SandboxResult(
        outcome=SandboxOutcome(outcome),
        value=message["value"] if is_ok else None,
        error="" if is_ok else error[:_MAX_ERROR_CHARS],
        stdout=stdout.encode("utf-8")[: limits.output_bytes].decode("utf-8", "ignore"),
        latency_s=0.0,
        cpu_s=_seconds(message["cpu_s"]),
    )


def _size(value: JsonValue) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))


def _seconds(value: JsonValue) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MAX_CPU_S else None


def _forged(what: str) -> SandboxResult:
    return SandboxResult(
        outcome=SandboxOutcome.PROTOCOL_ERROR,
        value=None,
        error=f"the tool wrote on the sandbox's own channel: {what}",
        stdout="",
        latency_s=0.0,
        cpu_s=None,
    )
