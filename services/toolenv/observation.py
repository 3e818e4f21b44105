"""Builds observations as ToolBench prints them: one ASCII JSON text of `error` and `response`.

Content is bounded in bytes. A longer answer keeps its head, and whoever wants the rest finds it
under a reference, if there is somewhere to keep it.
"""

import json
import re
from collections.abc import Callable
from typing import Final

from pydantic import JsonValue

from services.contracts.errors import ServiceError
from services.contracts.toolenv import CallStatus, Observation, ObservationSource

MAX_CONTENT_BYTES = 1 << 20
"""Longest content. It is ASCII, so bytes and characters are the same."""
_MIN_CONTENT_BYTES = 1024  # room for the error text of an answer that was cut
_UNICODE_ESCAPE_CHARS: Final = 6
_CUT_MARK: Final = "..."  # what the reference puts behind an observation that it cuts
_HIGH_SURROGATE: Final = re.compile(r"\\ud[89ab][0-9a-f]{2}\Z")

Keep = Callable[[bytes], str]
"""Keeps an answer whole and returns its reference (`services.toolenv.overflow.OverflowStore.put`).
May wait for the disk; a `ServiceError` means that it could not."""


def print_reply(error: str, response: JsonValue) -> str:
    """The `{"error", "response"}` text as ToolBench prints it.

    Raises:
        ValueError: `response` holds NaN or an infinity, which JSON does not have.
        RecursionError: `response` is nested too deeply to print.
    """
    return json.dumps({"error": error, "response": response}, allow_nan=False)


def succeeded(
    response: JsonValue,
    *,
    source: ObservationSource,
    latency_s: float,
    keep: Keep | None = None,
) -> Observation:
    """The observation of a call that returned a value; one that cannot be printed is refused.

    Args:
        response: What the API returned.
        source: Who answered.
        latency_s: Seconds of execution.
        keep: Where an answer goes that is too long; see `bounded`.
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
    return bounded(CallStatus.OK, content, source=source, latency_s=latency_s, keep=keep)


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
    status: CallStatus,
    content: str,
    *,
    source: ObservationSource,
    latency_s: float,
    keep: Keep | None = None,
) -> Observation:
    """An observation with this content, or `OUTPUT_LIMIT` with the head of it.

    Args:
        status: Outcome where the content fits.
        content: A reply as `print_reply` prints it.
        source: Who answered.
        latency_s: Seconds of execution.
        keep: Keeps the whole response when the content exceeds `MAX_CONTENT_BYTES`.
    """
    if len(content) <= MAX_CONTENT_BYTES:
        return Observation(status=status, content=content, source=source, latency_s=latency_s)
    text = _response_text(content)
    ref, problem = kept(text, keep)
    return overflowed(
        text, ref=ref, problem=problem, source=source, latency_s=latency_s, total_bytes=len(content)
    )


def overflowed(
    head: str,
    *,
    total_bytes: int,
    source: ObservationSource,
    latency_s: float,
    ref: str | None = None,
    problem: str = "",
    upstream_status: int | None = None,
) -> Observation:
    """The `OUTPUT_LIMIT` observation of an answer that exceeds `MAX_CONTENT_BYTES`.

    Args:
        head: Beginning of the answer; as much of it is shown as fits.
        total_bytes: Length of the answer as far as it was read.
        source: Who answered.
        latency_s: Seconds of execution.
        ref: Where the whole answer is kept.
        problem: Why it is not.
        upstream_status: HTTP status of the API.
    """
    where = f"all of it is kept as {ref}" if ref else problem or "the rest of it is lost"
    error = (
        f"the answer of {total_bytes} bytes exceeds the limit of {MAX_CONTENT_BYTES} bytes; "
        f"{where[:400]}; ask for less"
    )
    return Observation(
        status=CallStatus.OUTPUT_LIMIT,
        content=_print_head(error, head, limit_bytes=MAX_CONTENT_BYTES),
        source=source,
        latency_s=latency_s,
        upstream_status=upstream_status,
        overflow_ref=ref,
    )


def shortened(
    observation: Observation, *, limit_bytes: int, keep: Keep | None = None
) -> Observation:
    """The observation with a response of which only the head is shown, where it is too long.

    Its outcome and its error text stay; the head ends with `...`.

    Args:
        observation: Any, its content a reply as `print_reply` prints it.
        limit_bytes: Longest content, bytes, >= 1024.
        keep: Keeps the whole response, unless the observation has a reference already.

    Raises:
        ValueError: The limit is too small for the text that says so.
    """
    if limit_bytes < _MIN_CONTENT_BYTES:
        raise ValueError(f"limit_bytes={limit_bytes} is less than {_MIN_CONTENT_BYTES}")
    if len(observation.content) <= limit_bytes:
        return observation
    text, ref = _response_text(observation.content), observation.overflow_ref
    if ref is None:
        ref, _ = kept(text, keep)
    error = str(json.loads(observation.content)["error"])[: limit_bytes // 16]
    content = _print_head(error, text, limit_bytes=limit_bytes, mark=_CUT_MARK)
    return observation.model_copy(update={"content": content, "overflow_ref": ref})


def cut_escaped(text: str, limit_chars: int) -> str:
    """A JSON string literal's inside, ASCII, of at most `limit_chars` characters.

    Never ends inside an escape or between the halves of a surrogate pair.

    Args:
        text: What it stands for; the part that does not fit is left out.
        limit_chars: Longest result, >= 0.
    """
    # No character takes less than one, so what lies beyond the limit need not be escaped.
    escaped = json.dumps(text[:limit_chars])[1:-1]
    if len(escaped) <= limit_chars:
        return escaped
    cut = escaped[:limit_chars]
    for start in range(limit_chars - 1, max(-1, limit_chars - _UNICODE_ESCAPE_CHARS), -1):
        if _starts_escape(cut, start):
            length = _UNICODE_ESCAPE_CHARS if escaped[start + 1] == "u" else 2
            cut = cut[:start] if start + length > limit_chars else cut
            break
    half = len(cut) - _UNICODE_ESCAPE_CHARS
    is_half = _HIGH_SURROGATE.search(cut) is not None and _starts_escape(cut, half)
    return cut[:half] if is_half else cut


def _starts_escape(escaped: str, position: int) -> bool:
    """Whether an escape begins here: of a run of backslashes, every second one is escaped."""
    before = escaped[: position + 1]
    return bool((len(before) - len(before.rstrip("\\"))) % 2)


def _print_head(error: str, head: str, *, limit_bytes: int, mark: str = "") -> str:
    before = print_reply(error, "").removesuffix('"}')
    room = max(0, limit_bytes - len(before) - len(mark) - len('"}'))
    return f'{before}{cut_escaped(head, room)}{mark}"}}'


def _response_text(content: str) -> str:
    """A printed reply's response: text as it is, anything else as JSON."""
    response = json.loads(content)["response"]
    return response if isinstance(response, str) else json.dumps(response)


def kept(text: str, keep: Keep | None) -> tuple[str | None, str]:
    """Keep a text; its reference, else why there is none."""
    if keep is None:
        return None, ""
    try:
        return keep(text.encode("utf-8", "replace")), ""
    except ServiceError as exc:
        return None, exc.detail
