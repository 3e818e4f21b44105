"""Builds observations as ToolBench prints them: one ASCII JSON text of `error` and `response`."""

import json

from pydantic import JsonValue

from services.contracts.toolenv import CallStatus, Observation, ObservationSource

MAX_CONTENT_BYTES = 1 << 20
"""Longest content. It is ASCII, so bytes and characters are the same."""


def print_reply(error: str, response: JsonValue) -> str:
    """The `{"error", "response"}` text as ToolBench prints it.

    Raises:
        ValueError: `response` holds NaN or an infinity, which JSON does not have.
        RecursionError: `response` is nested too deeply to print.
    """
    return json.dumps({"error": error, "response": response}, allow_nan=False)


def succeeded(response: JsonValue, *, source: ObservationSource, latency_s: float) -> Observation:
    """The observation of a call that returned a value; one that cannot be printed is refused.

    Args:
        response: What the API returned.
        source: Who answered.
        latency_s: Seconds of execution.
    """
    try:
        content = print_reply("", response)
    except ValueError:
        return failed(
            CallStatus.TOOL_ERROR,
            "the tool returned NaN or an infinity, which JSON cannot hold",
            source=source,
            latency_s=latency_s,
        )
    except RecursionError:
        return failed(
            CallStatus.OUTPUT_LIMIT,
            "the tool returned a value nested too deeply to print",
            source=source,
            latency_s=latency_s,
        )
    return bounded(CallStatus.OK, content, source=source, latency_s=latency_s)


def failed(
    status: CallStatus,
    error: str,
    *,
    response: JsonValue = "",
    source: ObservationSource = "error",
    latency_s: float = 0.0,
) -> Observation:
    """The observation of a call that did not return a value.

    Args:
        status: Why.
        error: Text for the model: the cause, with value and limit.
        response: What there is of an answer.
        source: Who answered; `error` when nobody did.
        latency_s: Seconds of execution.
    """
    return bounded(status, print_reply(error, response), source=source, latency_s=latency_s)


def bounded(
    status: CallStatus, content: str, *, source: ObservationSource, latency_s: float
) -> Observation:
    """An observation with this content, or one that refuses it for its length."""
    if len(content) > MAX_CONTENT_BYTES:
        status = CallStatus.OUTPUT_LIMIT
        content = print_reply(
            f"the answer of {len(content)} bytes exceeds the limit of {MAX_CONTENT_BYTES} bytes; "
            "ask for less",
            "",
        )
    return Observation(status=status, content=content, source=source, latency_s=latency_s)
