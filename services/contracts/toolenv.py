"""Contract of the tool environment: run one API call, get one observation."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, Protocol

from pydantic import Field, JsonValue

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.base import ForeignModel, WireModel
from services.contracts.errors import Problem

MAX_ARGUMENTS_CHARS = 65_536
MAX_CALLS_TOGETHER = 64
MAX_TRIAL_CHARS = 65_536


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
    BLOCKED = "blocked"
    """The API's provider refuses this caller for good."""
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
    NOT_ALLOWED = "not_allowed"
    """No tool was called: the run may not make this call, because it changes something."""
    MODEL_ERROR = "model_error"
    """No tool was called: the language model failed."""


CallSource = Literal["replay", "live", "custom", "remote", "simulated"]
"""A way to obtain an answer."""
ObservationSource = Literal["live", "custom", "replay", "remote", "simulated", "error"]
"""Who answered. `live` is the API itself; `custom` a sandboxed `api.py`; `replay` a recording;
`remote` another ToolBench backend, which may be any of the others; `simulated` a language model
that plays the API; `error` means nobody did."""


class ToolCall(WireModel):
    """One call a planner wants executed."""

    api: ApiRef
    arguments_text: str = Field(max_length=MAX_ARGUMENTS_CHARS)
    """The model's text, verbatim; the environment parses it."""
    sources: tuple[CallSource, ...] | None = Field(default=None, min_length=1, max_length=5)
    """Who may answer, preferred first; one entry is a strict mode. `None` leaves it to the service,
    whose operator may also forbid some."""
    user: str | None = Field(default=None, max_length=128)
    """Whose credentials are used first; `None` uses only those shared by all."""


class Trial(WireModel):
    """Code that somebody wants to try before it becomes a tool."""

    source: str = Field(max_length=MAX_TRIAL_CHARS)
    """A Python module."""
    function: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    """A function of the module, called with the arguments."""
    arguments: dict[str, JsonValue] = {}


class Attempt(ForeignModel):
    """A source that was asked, or passed over, before the one that answered."""

    source: CallSource
    reason: str
    """Why its answer was not the one: what it lacks, or how it failed."""
    status: CallStatus | None = None
    """Outcome of what was tried; `None` when nothing was sent."""


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
    key: str | None = None
    """Content address of the call (`services.toolenv.cassettes.key`); `None` when the arguments are
    no JSON object."""
    age_s: float | None = None
    """Seconds since a replayed answer was recorded; `None` for an answer made now."""
    recorded_source: ObservationSource | None = None
    """Who gave a replayed answer when it was recorded."""
    retry_after_s: float | None = None
    """Pause that the API asked for, seconds."""
    overflow_ref: str | None = None
    """Where the whole answer is kept when it exceeded the limit: `sha256:<hex>`."""
    is_recorded: bool | None = None
    """Whether this answer is safely in the record; `None` when recording it was not asked for."""
    tried: CallSource | None = None
    """The source whose answer or failure this is; `None` when all declined."""
    attempts: tuple[Attempt, ...] = ()
    """Sources of the chain before the one that answered, in order."""


class CallResult(ForeignModel):
    """One of several calls made together: exactly one of the two is set."""

    observation: Observation | None = None
    problem: Problem | None = None
    """The environment itself failed for this call; see `ServiceError`."""


class HealthState(StrEnum):
    """What the last answers of an API say about access to it."""

    OK = "ok"
    UNSUBSCRIBED = "unsubscribed"
    UNAUTHORISED = "unauthorised"
    BLOCKED = "blocked"
    QUOTA = "quota"
    UNKNOWN = "unknown"
    """Never called, or it gave no answer that says."""


class ApiHealth(ForeignModel):
    """How one API has answered so far; recordings and simulations do not count."""

    ref: ApiRef
    state: HealthState = HealthState.UNKNOWN
    calls: int = Field(default=0, ge=0)
    success_rate: float = Field(default=0.5, ge=0, le=1)
    """Expected share of calls that the API answers: (answered + 1) / (calls + 2), so 0.5 for one
    that was never called. A wrong argument that the API explains counts as answered."""
    mean_latency_s: float | None = Field(default=None, ge=0)
    """Mean over all answered calls, seconds."""
    last_status: CallStatus | None = None
    last_called_at: float | None = None
    """Unix seconds."""
    missing_credentials: tuple[str, ...] = ()
    """Names of credentials that the API needs and nobody has set for all users."""


class CatalogueChange(ForeignModel):
    """What reading the sources of tools again did, addresses in order."""

    added: tuple[ApiRef, ...] = ()
    removed: tuple[ApiRef, ...] = ()
    changed: tuple[ApiRef, ...] = ()
    refused: tuple[str, ...] = ()
    """Files and entries that are not offered, each with reason and fix; quarantined ones too."""


class OverflowPart(ForeignModel):
    """A piece of an answer that was too long to show."""

    text: str
    offset: int = Field(ge=0)
    """First byte of the piece: the one asked for, or the start of the next character."""
    next_offset: int | None = None
    """Where the next piece starts; `None` after the last."""
    total_bytes: int = Field(ge=0)


class ToolCaller(Protocol):
    """What a search needs of a tool environment. Safe to call concurrently."""

    async def invoke(self, call: ToolCall) -> Observation:
        """Execute one call before the request's deadline.

        Not idempotent: an API may have side effects, so callers do not retry on their own.

        Returns:
            The observation. A failing *tool* is an ordinary observation whose status is not `OK`,
            never an exception.

        Raises:
            NotFound: The catalogue has no such API; the detail names similar ones.
            ResourceExhausted: Too many calls wait already.
            DeadlineExceeded: The request's deadline passed before the call could begin.
            Unavailable: The environment itself cannot run calls now.
        """
        ...

    async def try_code(self, trial: Trial) -> Observation:
        """Run code that is no tool of the catalogue: in the sandbox, without network or secrets.

        Returns:
            As `invoke`; whatever the code does is an observation.

        Raises:
            FailedPrecondition: This environment has no sandbox.
            ResourceExhausted: Too many calls wait already.
            Unavailable: The sandbox cannot run calls now.
        """
        ...

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """Documents of those of `refs` that exist, in the order asked; unknown ones left out."""
        ...


class ToolEnv(ToolCaller, Protocol):
    """The whole tool environment. Safe to call concurrently."""

    async def invoke_many(self, calls: Sequence[ToolCall]) -> list[CallResult]:
        """Execute calls side by side, each as `invoke` does; results in the order of the calls.

        A call that fails or runs out of time does not touch its siblings: what `invoke` would raise
        is that call's `problem`.

        Raises:
            InvalidArgument: There are more than `MAX_CALLS_TOGETHER`.
        """
        ...

    async def catalogue(self) -> list[ApiDocument]:
        """Every document, ordered by address; what the retriever indexes."""
        ...

    async def health(self) -> list[ApiHealth]:
        """How every API that was called, or lacks a credential, is doing; ordered by address."""
        ...

    async def read_overflow(
        self, ref: str, *, offset: int = 0, limit: int = 65_536
    ) -> OverflowPart:
        """A piece of an answer that was too long to show, cut between characters.

        Args:
            ref: As in `Observation.overflow_ref`.
            offset: First byte, >= 0.
            limit: Longest piece, bytes, 8 to 1 MiB.

        Raises:
            InvalidArgument: The reference is malformed, or a number is out of range.
            NotFound: It is not kept, or not any more.
        """
        ...

    async def reload(self) -> CatalogueChange:
        """Read the sources of tools again; calls in progress finish with what they began with.

        Raises:
            FailedPrecondition: A source as a whole cannot be read; the catalogue in force stays.
        """
        ...
