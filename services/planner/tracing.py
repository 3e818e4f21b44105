"""The spans of a run, and the ports that make them.

    invoke_agent planner
      retrieve
      plan DFS_woFilter_w2
        chat model
        execute_tool category/tool/api

Names and attributes follow OpenTelemetry's semantic conventions for generative AI (status
"development", registry 0.66b2 of the Python package). Deviations: the retrieval's span is named
`retrieve`, with the conventions' `retrieval` as operation; what they do not name begins with
`toolwright.`. Instructions, messages, arguments and observations are never attributes.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.ids import RunId
from services.contracts.llm import ChatModel, ChatRequest, Completion, CompletionDelta, ModelInfo
from services.contracts.planner import RunEnded
from services.contracts.retriever import IndexStatus, Retriever, RetrieveRequest, RetrieveResult
from services.contracts.toolenv import CallStatus, Observation, ToolCall, ToolCaller, Trial
from services.kit.telemetry import Attributes, current, is_tracing, note_error, span, started

_OPERATION = "gen_ai.operation.name"


@contextmanager
def run_span(run_id: RunId) -> Iterator[Span]:
    """Around one run, its wait for a place included."""
    attributes = {
        _OPERATION: "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.conversation.id": run_id,
    }
    with span("invoke_agent planner", attributes=attributes) as begun:
        yield begun


@contextmanager
def plan_span(method: str) -> Iterator[Span]:
    """Around the search itself."""
    attributes = {_OPERATION: "plan", "gen_ai.agent.name": "planner", "toolwright.method": method}
    with span(f"plan {method}", attributes=attributes) as begun:
        yield begun


def note_end(begun: Span, end: RunEnded) -> None:
    """Tell a run's span how the run ended."""
    if not begun.is_recording():
        return
    begun.set_attributes(
        {
            "gen_ai.usage.input_tokens": end.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": end.usage.completion_tokens,
            "toolwright.run.end": end.kind,
            "toolwright.run.llm_calls": end.llm_calls,
            "toolwright.run.tool_calls": end.tool_calls,
        }
    )
    if end.limit is not None:
        begun.set_attribute("toolwright.run.limit", end.limit)
    if end.kind == "failed":
        note_error(begun, end.problem.code if end.problem is not None else "failed")


class TracedModel:
    """See `ChatModel`; every request is a `chat` span."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._name: str | None = None

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`."""
        if not is_tracing():
            return await self._model.complete(request)
        with span(self._title(), kind=SpanKind.CLIENT, attributes=self._asked(request)) as begun:
            completion = await self._model.complete(request)
            _note_reply(begun, completion)
            return completion

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """See `ChatModel.stream`."""
        attributes = {**self._asked(request), "gen_ai.request.stream": True}
        pieces = self._model.stream(request)
        with started(self._title(), kind=SpanKind.CLIENT, attributes=attributes) as begun:
            try:
                while True:
                    with current(begun):  # not across the `yield`, see `services.kit.telemetry`
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    if piece.completion is not None:
                        _note_reply(begun, piece.completion)
                    yield piece
            finally:
                if isinstance(pieces, AsyncGenerator):
                    await pieces.aclose()

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`; names the spans from then on."""
        info = await self._model.describe()
        self._name = info.model
        return info

    def _title(self) -> str:
        return f"chat {self._name}" if self._name is not None else "chat"

    def _asked(self, request: ChatRequest) -> Attributes:
        attributes: dict[str, str | int | float] = {
            _OPERATION: "chat",
            "gen_ai.provider.name": "toolwright",
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.temperature": request.temperature,
            "toolwright.request.messages": len(request.messages),
        }
        if self._name is not None:
            attributes["gen_ai.request.model"] = self._name
        if request.seed is not None:
            attributes["gen_ai.request.seed"] = request.seed
        return attributes


def _note_reply(begun: Span, completion: Completion) -> None:
    if begun.is_recording():
        begun.set_attributes(
            {
                "gen_ai.usage.input_tokens": completion.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": completion.usage.completion_tokens,
                "gen_ai.response.finish_reasons": (completion.finish_reason,),
                "toolwright.response.tool_calls": len(completion.message.tool_calls),
            }
        )


class TracedToolEnv:
    """See `ToolCaller`; every call is an `execute_tool` span."""

    def __init__(self, toolenv: ToolCaller) -> None:
        self._toolenv = toolenv

    async def invoke(self, call: ToolCall) -> Observation:
        """See `ToolCaller.invoke`."""
        if not is_tracing():
            return await self._toolenv.invoke(call)
        with _tool_span(str(call.api), "function") as begun:
            observation = await self._toolenv.invoke(call)
            _note_observation(begun, observation)
            return observation

    async def try_code(self, trial: Trial) -> Observation:
        """See `ToolCaller.try_code`."""
        with _tool_span("trial", "extension") as begun:
            observation = await self._toolenv.try_code(trial)
            _note_observation(begun, observation)
            return observation

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """See `ToolCaller.describe`."""
        return await self._toolenv.describe(refs)


@contextmanager
def _tool_span(tool: str, tool_type: str) -> Iterator[Span]:
    attributes = {
        _OPERATION: "execute_tool",
        "gen_ai.tool.name": tool,
        "gen_ai.tool.type": tool_type,
    }
    with span(f"execute_tool {tool}", kind=SpanKind.CLIENT, attributes=attributes) as begun:
        yield begun


def _note_observation(begun: Span, observation: Observation) -> None:
    if not begun.is_recording():
        return
    begun.set_attributes(
        {
            "toolwright.observation.status": observation.status.value,
            "toolwright.observation.chars": len(observation.content),
        }
    )
    if observation.source is not None:
        begun.set_attribute("toolwright.observation.source", observation.source)
    if observation.status is not CallStatus.OK:
        note_error(begun, observation.status.value)


class TracedRetriever:
    """See `Retriever`; every query is a `retrieve` span."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResult:
        """See `Retriever.retrieve`."""
        attributes: Attributes = {
            _OPERATION: "retrieval",
            "toolwright.retrieval.top_k": request.top_k,
        }
        with span("retrieve", kind=SpanKind.CLIENT, attributes=attributes) as begun:
            result = await self._retriever.retrieve(request)
            begun.set_attribute("toolwright.retrieval.apis", len(result.apis))
            return result

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        """See `Retriever.index`."""
        return await self._retriever.index(documents)

    async def status(self) -> IndexStatus | None:
        """See `Retriever.status`."""
        return await self._retriever.status()
