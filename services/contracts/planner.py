"""Contract of the planner: solve an instruction by search, and let the caller watch."""

from collections.abc import AsyncGenerator
from typing import Annotated, Literal, Protocol

from pydantic import Field, JsonValue

from services.contracts.apis import ApiRef, SideEffect
from services.contracts.base import ForeignModel, WireModel
from services.contracts.compat import NONE, Compat
from services.contracts.errors import Problem
from services.contracts.ids import RunId
from services.contracts.llm import FunctionSchema, Message, Usage
from services.contracts.retriever import MAX_TEXT_CHARS, MAX_TOP_K, RetrievedApi
from services.contracts.toolenv import CallSource, CallStatus, ObservationSource

RUN_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}$"
"""Run ids name files."""
Mode = Literal["exact", "parallel", "speculative"]
"""`exact`: one call at a time. `parallel`: siblings and independent calls at once, which may grow
another tree. `speculative`: the tree of `exact`, with likely next calls made ahead of time; of the
model none under `max_cost_usd`, of tools none under `max_tool_calls`."""
LimitName = Literal[
    "max_depth",
    "max_steps",
    "max_llm_calls",
    "max_tool_calls",
    "max_tokens",
    "max_cost_usd",
    "deadline_s",
    "loop",
]
"""What ended a search early; `loop` is a call repeated with the same observation."""


ReplyReading = Literal[
    "well_formed",
    "repaired",
    "truncated",
    "unreadable_arguments",
    "schema_violation",
    "unknown_function",
    "no_action",
]
"""What a reply looked like: usable as it was; usable after repairing its text; cut off by its token
limit; arguments that are no JSON object; arguments that break the function's schema; a name that no
function bears; no call at all."""


class Limits(WireModel):
    """Budgets of one run; each is checked before the next model call."""

    max_depth: int = Field(default=12, ge=1, le=1_000)
    """Edges from the root in ToolBench's counting: thought, action and input count one each."""
    max_llm_calls: int = Field(default=200, ge=1, le=10_000)
    max_steps: int | None = Field(default=None, ge=1, le=10_000)
    """Expansions of nodes over the whole run; `None` is no limit."""
    max_tool_calls: int | None = Field(default=None, ge=0, le=100_000)
    """Calls that reach a tool; `None` is no limit."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Prompt plus completion tokens over the whole run; `None` is no limit."""
    max_cost_usd: float | None = Field(default=None, gt=0)
    """Price of all tokens, US dollars, by the planner's price list; `None` is no limit."""
    max_observation_chars: int = Field(default=1024, ge=1, le=1_000_000)
    """An observation longer than this is cut for the model and marked with `...`."""
    deadline_s: float = Field(default=300.0, gt=0, le=86_400)
    """Wall clock of the whole run, seconds."""


class SolveRequest(WireModel):
    """An instruction to solve."""

    instruction: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    method: str = Field(default="DFS_woFilter_w2", max_length=64)
    """ToolBench's method name (`CoT@n`, `DFS_woFilter_wN`) or an alias (`react`, `dfsdt`)."""
    apis: tuple[ApiRef, ...] | None = None
    """The action space; `None` lets the retriever choose `top_k` APIs (open domain)."""
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K)
    sources: tuple[CallSource, ...] | None = Field(default=None, min_length=1, max_length=5)
    """Who may answer the run's calls, see `ToolCall.sources`; `None` leaves it to the service."""
    limits: Limits = Limits()
    compat: Compat = NONE
    seed: int = 0
    mode: Mode = "exact"
    prompts: str | None = Field(default=None, max_length=64)
    """Name of a prompt profile; `None` leaves it to `compat`."""
    show_budget: bool = False
    """Tell the model before each step what it may still spend."""
    allow_writes: bool = False
    """Carry out calls that change something. Without it such a call is refused to the model, or
    asked about, see `ask_approval`."""
    ask_approval: bool = False
    """Ask before each call that changes something (`ApprovalAsked`), and wait for the decision."""
    user: str | None = Field(default=None, max_length=128)
    """Whose credentials tools are given, and whose turn it is when runs wait."""
    run_id: RunId | None = Field(default=None, pattern=RUN_ID_PATTERN)
    record: bool = False
    """Put ToolBench's answer file into the terminal event."""


class _Event(ForeignModel):
    """What every event of a run carries."""

    sequence: int = Field(default=0, ge=0)
    """Position in the run's event stream, from 0 without gaps."""


class Queued(_Event):
    """The run waits for its turn; sent again when its position changes."""

    kind: Literal["queued"] = "queued"
    run_id: RunId
    position: int = Field(ge=1)
    """Runs ahead of it, itself included."""


class _NodeEvent(_Event):
    """An event at a node of the search tree."""

    node_id: int = Field(ge=0)
    """The node that is being expanded; the root is 0."""
    expansion: int = Field(ge=1)
    """Running number of the expansion (one model call each), from 1."""
    depth: int = Field(ge=0)
    """Edges from the root to the node being expanded."""


class Retrieved(_Event):
    """The action space is known; the first event of a run that works, after any `Queued`."""

    kind: Literal["retrieved"] = "retrieved"
    run_id: RunId | None = None
    """Under which the run is kept, cancelled and continued."""
    functions: tuple[FunctionSchema, ...]
    """In the order shown to the model, `Finish` last."""
    function_apis: dict[str, ApiRef] = {}
    """Which API each function name stands for."""
    retrieved: tuple[RetrievedApi, ...] = ()
    """Empty in closed domain."""
    latency_s: float = Field(default=0.0, ge=0)


class HistoryMessage(ForeignModel):
    """A message of a node's history."""

    message: Message
    hidden: bool = False
    """Not shown to later model calls (a re-expansion's list of earlier candidates)."""


class ExpansionStarted(_NodeEvent):
    """The model is about to be asked for the next step below a node."""

    kind: Literal["expansion_started"] = "expansion_started"
    base_node_id: int | None
    """The node whose history, as last announced, `messages` extends; `None` for the first."""
    messages: tuple[HistoryMessage, ...]


class ModelDelta(_NodeEvent):
    """A piece of the reply while it is written."""

    kind: Literal["model_delta"] = "model_delta"
    text: str


class ModelReplied(_NodeEvent):
    """The whole reply."""

    kind: Literal["model_replied"] = "model_replied"
    message: Message
    """As used: after repair, where there was one."""
    usage: Usage
    latency_s: float = Field(ge=0)
    reading: ReplyReading = "well_formed"
    """What the reply looked like before repair."""
    repairs: int = Field(default=0, ge=0)
    """Times the model was asked again because its reply could not be used."""


class Deliberated(_Event):
    """The model was asked about the search itself: a ranking, a plan, a reflection."""

    kind: Literal["deliberated"] = "deliberated"
    purpose: str
    """What for, e.g. `rank`, `value`, `reflect`, `plan`."""
    node_id: int | None = Field(default=None, ge=0)
    """The node it is about, when it is about one."""
    text: str
    usage: Usage
    latency_s: float = Field(ge=0)
    is_readable: bool = True
    """False when the search found no verdict in the text and went on with a neutral one."""


class ApprovalAsked(_Event):
    """A call that changes something waits for a decision."""

    kind: Literal["approval_asked"] = "approval_asked"
    call_id: int = Field(ge=1)
    """The `ToolStarted` it belongs to."""
    api: ApiRef
    effect: SideEffect
    arguments: str
    expires_in_s: float = Field(ge=0)
    """After which it counts as refused, seconds."""


class ToolStarted(_NodeEvent):
    """An action is about to run; `Finish` is an action too."""

    kind: Literal["tool_started"] = "tool_started"
    call_id: int = Field(ge=1)
    """Running number of the action in the run, from 1."""
    function: str
    arguments: str
    api: ApiRef | None = None
    """`None` for Finish and for names that no function bears."""
    input_node_id: int | None = None
    """The action's own node, which can be forked; `None` where the tree gets it later or never."""
    compensates: int | None = None
    """The call whose effect this one undoes, because its branch was abandoned."""


class ToolFinished(_NodeEvent):
    """An action's outcome."""

    kind: Literal["tool_finished"] = "tool_finished"
    call_id: int = Field(ge=1)
    observation: str
    """Cut to `max_observation_chars`, as the model sees it."""
    status: CallStatus
    code: int
    """ToolBench's number for the status."""
    source: ObservationSource | None
    """`None` when no tool was asked."""
    latency_s: float = Field(ge=0)
    upstream_status: int | None = None
    """HTTP status of the API itself, where there is one."""
    age_s: float | None = None
    """Seconds since a replayed answer was recorded."""
    key: str | None = None
    """Content address of the call, under which a recording of it is kept."""
    reused: bool = False
    """The observation of the same call in another branch; no tool was asked again."""


class ExpansionFinished(_NodeEvent):
    """The whole subtree of that expansion has been searched."""

    kind: Literal["expansion_finished"] = "expansion_finished"
    call_id: int | None
    """The expansion's last action, `None` when it had none."""


class ToolProposal(ForeignModel):
    """A tool that a run made and used, offered to the catalogue. Nobody adopts it but the user."""

    name: str
    """Of its first function."""
    source: str
    """A Python module; its public functions become APIs."""
    tests: str
    """Functions `test_*` without arguments, to be run after `source` in one module; all passed."""
    failed_tests: int = Field(default=0, ge=0)
    """How many more the model wrote that did not pass."""
    instruction: str
    """What it was made for."""


class RunEnded(_Event):
    """Always the last event.

    `answered`: an answer was given. `gave_up`: the model gave up and nothing else was left.
    `exhausted`: a budget ended the search, `limit` and `reason` name it. `cancelled`: the caller
    left, or cancelled the run. `failed`: a service failed, `problem` says how; never counted as the
    model's failure.
    """

    kind: Literal["answered", "gave_up", "exhausted", "cancelled", "failed"]
    run_id: RunId | None = None
    is_kept: bool = False
    """The run can be looked at, replayed and forked under its id."""
    answer: str | None = None
    """Plain text of the final answer; of an exhausted run, the best that was found until then."""
    is_best_effort: bool = False
    """The answer was given because a budget ended, not because the model was done."""
    limit: LimitName | None = None
    """Which budget ended an exhausted run."""
    final_arguments: str | None = None
    """Finish's raw argument text, as ToolBench stores it."""
    reason: str | None = None
    problem: Problem | None = None
    solution_path: tuple[Message, ...] = ()
    """History of the node that answered."""
    llm_calls: int = Field(default=0, ge=0)
    tool_calls: int = Field(default=0, ge=0)
    usage: Usage = Usage()
    cost_usd: float | None = None
    """By the planner's price list; `None` without one."""
    seconds: float = Field(default=0.0, ge=0)
    readings: dict[ReplyReading, int] = {}
    """How many replies of each kind the run had."""
    reused_observations: int = Field(default=0, ge=0)
    extra_llm_calls: int = Field(default=0, ge=0)
    """Calls made ahead of time and never used; not part of `llm_calls` and `usage`."""
    extra_tool_calls: int = Field(default=0, ge=0)
    """Calls that were made ahead of time, reached a tool and were never used; not part of
    `tool_calls`. All of them only read."""
    extra_usage: Usage = Usage()
    record: dict[str, JsonValue] | None = None
    """ToolBench's answer file, when asked for and the run did not fail."""
    proposal: ToolProposal | None = None
    """A tool that the run made, with tests that it passes."""


PlanEvent = Annotated[
    Queued
    | Retrieved
    | ExpansionStarted
    | ModelDelta
    | ModelReplied
    | Deliberated
    | ApprovalAsked
    | ToolStarted
    | ToolFinished
    | ExpansionFinished
    | RunEnded,
    Field(discriminator="kind"),
]


class Planner(Protocol):
    """Searches for a sequence of tool calls that answers an instruction."""

    def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """Yield the run's events in order; the last one is a `RunEnded`.

        A failing service ends the run with kind `failed`; it is not raised. Closing the iterator
        cancels the run. A planner that is busy lets a run wait (`Queued`).

        Raises:
            InvalidArgument: Unknown method or API, before the first event.
            Unavailable: The planner itself cannot be reached.
        """
        ...


class ForkedAction(WireModel):
    """An action that takes the place of a recorded one."""

    function: str = Field(min_length=1, max_length=512)
    arguments: str = Field(max_length=65_536)


class ForkRequest(WireModel):
    """Go on from a node of a kept run, with something changed.

    The path above the node is taken as it was; nothing of it is asked or executed again, and the
    search does not go back above it.
    """

    run_id: RunId = Field(pattern=RUN_ID_PATTERN)
    node_id: int = Field(ge=0)
    new_run_id: RunId | None = Field(default=None, pattern=RUN_ID_PATTERN)
    action: ForkedAction | None = None
    """Carried out in place of the node's own action; the node must be an action input."""
    observation: str | None = Field(default=None, max_length=1_000_000)
    """Stands in place of the node's own observation; the node must be an action input."""
    method: str | None = Field(default=None, max_length=64)
    """Another search method below the node."""
    apis: tuple[ApiRef, ...] | None = Field(default=None, min_length=1)
    """Another action space below the node."""
    limits: Limits | None = None
    allow_writes: bool | None = None
    seed: int | None = None


class RunSummary(ForeignModel):
    """A kept run."""

    run_id: RunId
    instruction: str
    method: str
    started_at: float
    """Unix seconds."""
    kind: Literal["answered", "gave_up", "exhausted", "cancelled", "failed", "unfinished"]
    """`unfinished`: still going on, or its process died."""
    llm_calls: int = Field(default=0, ge=0)
    tool_calls: int = Field(default=0, ge=0)
    forked_from: RunId | None = None


class RunKeeper(Protocol):
    """Runs that were kept: every model call and observation of theirs can be had again."""

    async def runs(self, *, limit: int = 100) -> list[RunSummary]:
        """The latest runs, newest first."""
        ...

    async def events(self, run_id: RunId) -> list[PlanEvent]:
        """Every event of a run that ended, as its caller saw them.

        Raises:
            NotFound: No such run is kept.
            FailedPrecondition: It has not ended.
        """
        ...

    def replay(self, run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
        """Run it again from its record alone: neither model nor tool is asked.

        Its events are those that the run told, in the same order and with the same times, pieces of
        replies included; but no `Queued`. Of a run that was cancelled, what it was about to do
        between its last answer and its end may be told too.

        Raises:
            NotFound: No such run is kept.
            FailedPrecondition: The record does not hold what the search asks for: it was made by
                another version of the planner, or is damaged.
        """
        ...

    def resume(self, run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
        """Go on with a run whose process died; what its record holds is not asked again.

        Raises:
            NotFound: No such run is kept.
            FailedPrecondition: The run came to its end by itself, or is going on now; one that
                failed or was cancelled can go on.
        """
        ...

    def fork(self, request: ForkRequest) -> AsyncGenerator[PlanEvent, None]:
        """Start a new run from a node of a kept one.

        Raises:
            NotFound: There is no such run or node.
            InvalidArgument: The node cannot be changed in that way.
        """
        ...


class Decision(WireModel):
    """The answer to an `ApprovalAsked`, over HTTP."""

    approve: bool = Field(strict=True)
    """Only `true` and `false` are taken: what is meant by anything else must not be guessed."""


class RunControl(Protocol):
    """Acts on runs that are going on."""

    async def cancel(self, run_id: RunId) -> None:
        """End a run as `cancelled`; its model call and its tool call are ended too.

        Raises:
            NotFound: No such run is going on.
        """
        ...

    async def decide(self, run_id: RunId, call_id: int, *, approve: bool) -> None:
        """Answer an `ApprovalAsked`.

        Raises:
            NotFound: No such call waits.
        """
        ...
