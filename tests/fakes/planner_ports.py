"""Fakes of the planner's ports: a model that follows a script, a tool world, a retriever."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef
from services.contracts.errors import NotFound, ServiceError
from services.contracts.llm import (
    ChatRequest,
    Completion,
    CompletionDelta,
    Message,
    MessageToolCall,
    ModelInfo,
    Usage,
)
from services.contracts.planner import PlanEvent, Planner, RunEnded, SolveRequest
from services.contracts.retriever import (
    IndexStatus,
    RetrievedApi,
    RetrieveRequest,
    RetrieveResult,
)
from services.contracts.toolenv import (
    ApiHealth,
    CallResult,
    CallStatus,
    CatalogueChange,
    Observation,
    OverflowPart,
    ToolCall,
    Trial,
)

HELLO = ApiRef(category="Customized", tool="hello_world", api="get_hello_world")
OTHER = ApiRef(category="Customized", tool="hello_world", api="other")
HELLO_NAME = "get_hello_world_for_hello_world"
OTHER_NAME = "other_for_hello_world"
GIVE_UP_ARGUMENTS = '{"return_type": "give_up_and_restart"}'


def document(ref: ApiRef = HELLO, **changes: object) -> ApiDocument:
    values: dict[str, object] = {
        "ref": ref,
        "category_name": ref.category,
        "tool_name": ref.tool,
        "api_name": ref.api,
        "tool_description": "Greets.",
        "description": "Get a greeting.",
    }
    return ApiDocument.model_validate(values | changes)


def number(name: str, **changes: object) -> ApiParameter:
    return ApiParameter.model_validate({"name": name, "type": "NUMBER"} | changes)


def reply(*calls: tuple[str, str], thought: str | None = None) -> Message:
    return Message(
        role="assistant",
        content=thought,
        tool_calls=tuple(
            MessageToolCall(id=f"call_{index}", name=name, arguments=arguments)
            for index, (name, arguments) in enumerate(calls)
        ),
    )


def give_up(thought: str | None = None) -> Message:
    return reply(("Finish", GIVE_UP_ARGUMENTS), thought=thought)


def answer(text: str, thought: str | None = None) -> Message:
    arguments = json.dumps({"return_type": "give_answer", "final_answer": text})
    return reply(("Finish", arguments), thought=thought)


class ScriptedModel:
    """A `ChatModel` that answers from a list, or by a function of the request.

    Attributes:
        requests: Every request, in order.
        closed_streams: How many streams were closed before their end.
    """

    def __init__(
        self,
        replies: Iterable[Message | ServiceError] | Callable[[ChatRequest], Message],
        *,
        usage: Usage | None = None,
        delay_s: float = 0.0,
        info: ModelInfo | None = None,
    ) -> None:
        self.requests: list[ChatRequest] = []
        self._info = info or ModelInfo()
        self.closed_streams = 0
        self._usage = usage or Usage(prompt_tokens=10, completion_tokens=2)
        self._delay_s = delay_s
        self._by_request = replies if callable(replies) else None
        self._list = iter(()) if callable(replies) else iter(replies)

    async def describe(self) -> ModelInfo:
        return self._info

    async def complete(self, request: ChatRequest) -> Completion:
        self.requests.append(request)
        await asyncio.sleep(self._delay_s)
        item = self._by_request(request) if self._by_request else next(self._list)
        if isinstance(item, ServiceError):
            raise item
        return Completion(message=item, usage=self._usage)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        completion = await self.complete(request)
        is_whole = False
        try:
            for word in (completion.message.content or "").split():
                yield CompletionDelta(text=word)
            yield CompletionDelta(completion=completion)
            is_whole = True
        finally:
            self.closed_streams += not is_whole


class FakeToolEnv:
    """A `ToolEnv` over a few documents; answers `hello world` unless told otherwise.

    Attributes:
        calls: Every call, in order.
        trials: Every trial of code, in order.
    """

    def __init__(
        self,
        documents: Sequence[ApiDocument] = (),
        *,
        answers: Callable[[ToolCall], Observation] | None = None,
        error: ServiceError | None = None,
        tried: Callable[[Trial], Observation] | None = None,
    ) -> None:
        self.calls: list[ToolCall] = []
        self.trials: list[Trial] = []
        self._tried = tried
        self._documents = tuple(documents) or (document(HELLO), document(OTHER))
        self._answers = answers
        self._error = error

    async def invoke(self, call: ToolCall) -> Observation:
        self.calls.append(call)
        if self._error is not None:
            raise self._error
        if self._answers is not None:
            return self._answers(call)
        if call.api not in {document.ref for document in self._documents}:
            raise NotFound(f"no API {str(call.api)!r}")
        content = json.dumps({"error": "", "response": "hello world"})
        return Observation(status=CallStatus.OK, content=content, source="custom", latency_s=0.5)

    async def invoke_many(self, calls: Sequence[ToolCall]) -> list[CallResult]:
        return [CallResult(observation=await self.invoke(call)) for call in calls]

    async def try_code(self, trial: Trial) -> Observation:
        self.trials.append(trial)
        if self._error is not None:
            raise self._error
        if self._tried is not None:
            return self._tried(trial)
        content = json.dumps({"error": "", "response": "tried"})
        return Observation(status=CallStatus.OK, content=content, source="custom", latency_s=0.5)

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        known = {known.ref: known for known in self._documents}
        return [known[ref] for ref in refs if ref in known]

    async def catalogue(self) -> list[ApiDocument]:
        return list(self._documents)

    async def health(self) -> list[ApiHealth]:
        return [ApiHealth(ref=document.ref) for document in self._documents]

    async def read_overflow(
        self, ref: str, *, offset: int = 0, limit: int = 65_536
    ) -> OverflowPart:
        raise NotFound(f"{ref} is not kept")

    async def reload(self) -> CatalogueChange:
        return CatalogueChange()


class FakeRetriever:
    """A `Retriever` that always finds the same APIs."""

    def __init__(self, refs: Sequence[ApiRef], *, error: ServiceError | None = None) -> None:
        self.requests: list[RetrieveRequest] = []
        self._refs = tuple(refs)
        self._error = error

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResult:
        self.requests.append(request)
        if self._error is not None:
            raise self._error
        hits = tuple(
            RetrievedApi(api=ref, rank=rank, score=1 / rank)
            for rank, ref in enumerate(self._refs[: request.top_k], start=1)
        )
        return RetrieveResult(apis=hits, index_version="1", latency_s=0.001)

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        raise NotImplementedError

    async def status(self) -> IndexStatus | None:
        return None


async def events_of(planner: Planner, request: SolveRequest) -> list[PlanEvent]:
    """All events of a run, which must not take longer than ten seconds."""
    async with asyncio.timeout(10):
        return [event async for event in planner.solve(request)]


def end_of(events: Sequence[PlanEvent]) -> RunEnded:
    last = events[-1]
    assert isinstance(last, RunEnded)
    return last
