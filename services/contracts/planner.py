"""Contract of the planner: solve an instruction by search, and let the caller watch."""

from collections.abc import AsyncGenerator
from typing import Annotated, Literal, Protocol

from pydantic import Field, JsonValue

from services.contracts.apis import ApiRef
from services.contracts.base import ForeignModel, WireModel
from services.contracts.compat import NONE, Compat
from services.contracts.errors import Problem
from services.contracts.ids import RunId
from services.contracts.llm import FunctionSchema, Message, Usage
from services.contracts.retriever import MAX_TEXT_CHARS, MAX_TOP_K, RetrievedApi
from services.contracts.toolenv import CallSource, CallStatus, ObservationSource


class Limits(WireModel):
    """Budgets of one run; each is checked before the next model call."""

    max_depth: int = Field(default=12, ge=1, le=1_000)
    """Edges from the root in ToolBench's counting: thought, action and input count one each."""
    max_llm_calls: int = Field(default=200, ge=1, le=10_000)
    max_tokens: int | None = Field(default=None, ge=1)
    """Prompt plus completion tokens over the whole run; `None` is no limit."""
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
    run_id: RunId | None = None
    record: bool = False
    """Put ToolBench's answer file into the terminal event."""


class _Event(ForeignModel):
    """What every event of a run carries."""

    sequence: int = Field(default=0, ge=0)
    """Position in the run's event stream, from 0 without gaps."""


class _NodeEvent(_Event):
    """An event at a node of the search tree."""

    node_id: int = Field(ge=0)
    """The node that is being expanded; the root is 0."""
    expansion: int = Field(ge=1)
    """Running number of the expansion (one model call each), from 1."""
    depth: int = Field(ge=0)
    """Edges from the root to the node being expanded."""


class Retrieved(_Event):
    """The action space is known; always the first event of a run that gets that far."""

    kind: Literal["retrieved"] = "retrieved"
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
    usage: Usage
    latency_s: float = Field(ge=0)


class ToolStarted(_NodeEvent):
    """An action is about to run; `Finish` is an action too."""

    kind: Literal["tool_started"] = "tool_started"
    call_id: int = Field(ge=1)
    """Running number of the action in the run, from 1."""
    function: str
    arguments: str
    api: ApiRef | None = None
    """`None` for Finish and for names that no function bears."""


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


class ExpansionFinished(_NodeEvent):
    """The whole subtree of that expansion has been searched."""

    kind: Literal["expansion_finished"] = "expansion_finished"
    call_id: int | None
    """The expansion's last action, `None` when it had none."""


class RunEnded(_Event):
    """Always the last event.

    `finished`: an answer was given. `gave_up`: the model gave up and nothing else was left.
    `exhausted`: a budget ended the search, `reason` names it. `cancelled`: the caller left.
    `failed`: a service failed, `problem` says how; never counted as the model's failure.
    """

    kind: Literal["finished", "gave_up", "exhausted", "cancelled", "failed"]
    answer: str | None = None
    """Plain text of the final answer."""
    final_arguments: str | None = None
    """Finish's raw argument text, as ToolBench stores it."""
    reason: str | None = None
    problem: Problem | None = None
    solution_path: tuple[Message, ...] = ()
    """History of the node that answered."""
    llm_calls: int = Field(default=0, ge=0)
    tool_calls: int = Field(default=0, ge=0)
    usage: Usage = Usage()
    seconds: float = Field(default=0.0, ge=0)
    record: dict[str, JsonValue] | None = None
    """ToolBench's answer file, when asked for and the run did not fail."""


PlanEvent = Annotated[
    Retrieved
    | ExpansionStarted
    | ModelDelta
    | ModelReplied
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
        cancels the run.

        Raises:
            InvalidArgument: Unknown method or API, before the first event.
            Unavailable: The planner itself cannot be reached.
        """
        ...
