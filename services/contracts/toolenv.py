"""Contract of the tool environment: run one API call, get one observation."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, Protocol

from pydantic import Field

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.base import ForeignModel, WireModel

MAX_ARGUMENTS_CHARS = 65_536


class CallStatus(StrEnum):
    """Outcome of an action, named after its cause.

    ToolBench's numbers for them live in `contracts.toolbench.codes`.
    """

    OK = "ok"
    UNKNOWN_FUNCTION = "unknown_function"
    INVALID_ARGUMENTS = "invalid_arguments"
    FINISHED = "finished"
    GAVE_UP = "gave_up"
    TIMEOUT = "timeout"
    API_NOT_WORKING = "api_not_working"
    UNAUTHORIZED = "unauthorized"
    UNSUBSCRIBED = "unsubscribed"
    TOO_MANY_REQUESTS = "too_many_requests"
    RATE_LIMITED = "rate_limited"
    TOOL_ERROR = "tool_error"
    """The tool answered with an error of its own: a bad argument, a missing entry."""
    REQUEST_FAILED = "request_failed"
    """The tool could not be reached, or answered outside its protocol."""
    SANDBOX_VIOLATION = "sandbox_violation"
    OUTPUT_LIMIT = "output_limit"
    RESOURCE_LIMIT = "resource_limit"
    """CPU or memory limit, or the tool's process crashed."""
    MODEL_ERROR = "model_error"
    """No tool was called: the language model failed."""


ObservationSource = Literal["live", "custom", "replay", "remote", "simulated", "error"]
"""Who answered. `custom` is a sandboxed `api.py`; `remote` another ToolBench backend, which may be
any of the others; `error` means nobody did."""


class ToolCall(WireModel):
    """One call a planner wants executed."""

    api: ApiRef
    arguments_text: str = Field(max_length=MAX_ARGUMENTS_CHARS)
    """The model's text, verbatim; the environment parses it."""


class Observation(ForeignModel):
    """What the environment answered."""

    status: CallStatus
    content: str
    """The whole `{"error", "response"}` JSON text as ToolBench prints it; not truncated."""
    source: ObservationSource
    latency_s: float = Field(default=0.0, ge=0)
    """Seconds of execution, measured inside the environment."""
    upstream_status: int | None = None
    """HTTP status of the API itself, where there is one."""


class ToolEnv(Protocol):
    """Executes tool calls. Safe to call concurrently."""

    async def invoke(self, call: ToolCall) -> Observation:
        """Execute one call before the request's deadline.

        Not idempotent: an API may have side effects, so callers do not retry on their own.

        Returns:
            The observation. A failing *tool* is an ordinary observation whose status is not `OK`,
            never an exception.

        Raises:
            Unavailable: The environment itself cannot run calls now.
        """
        ...

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """Documents of those of `refs` that exist, in the order asked; unknown ones left out."""
        ...

    async def catalogue(self) -> list[ApiDocument]:
        """Every document, ordered by address; what the retriever indexes."""
        ...
