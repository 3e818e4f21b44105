"""A run's ports with a tape between: what the record holds is answered from it.

A replay has no ports behind the tape (`None`); what it would ask them is missing.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from pydantic import TypeAdapter

from services.contracts.apis import ApiDocument, ApiRef, SideEffect
from services.contracts.errors import FailedPrecondition, ServiceError, Unavailable, from_problem
from services.contracts.ids import RunId
from services.contracts.llm import ChatModel, ChatRequest, Completion, CompletionDelta, ModelInfo
from services.contracts.retriever import (
    IndexStatus,
    Retriever,
    RetrieveRequest,
    RetrieveResult,
)
from services.contracts.toolenv import Observation, ToolCall, ToolCaller, Trial
from services.planner.approvals import Approvals
from services.planner.effects import NotMadeError, interrupted
from services.planner.journal.entries import Answer
from services.planner.journal.keys import key_of
from services.planner.journal.tape import Tape

T = TypeVar("T")
_DOCUMENTS: Final = TypeAdapter(list[ApiDocument])


class RecordedModel:
    """See `ChatModel`."""

    def __init__(self, model: ChatModel | None, tape: Tape) -> None:
        self._model = model
        self._tape = tape

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`."""
        tape, key = self._tape, self._tape.keys.key(request)
        n = tape.number("model", key)
        known = await tape.known("model", key, n)
        if known is not None:
            return Completion.model_validate(known.value)
        if self._model is None:
            raise await tape.missing("model", key, n, _question(request))
        return await tape.asked(
            "model", key, n, self._model.complete(request), Completion.model_dump_json
        )

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """See `ChatModel.stream`."""
        tape, key = self._tape, self._tape.keys.key(request)
        n = tape.number("model", key)
        known = await tape.recorded("model", key, n)
        if known is not None:
            for delta in _deltas(known):
                yield delta
            return
        if self._model is None:
            for text in tape.left("model", key, n) or ():
                yield CompletionDelta(text=text)
            raise await tape.missing("model", key, n, _question(request))
        pieces: list[str] = []
        stream = self._model.stream(request)
        try:
            async for delta in stream:
                pieces += [delta.text] if delta.text else []
                if delta.completion is not None:
                    await tape.hand_over()
                    value = delta.completion.model_dump_json()
                    tape.keep("model", key, n, f'"value":{value},"pieces":{json.dumps(pieces)}')
                yield delta
        except ServiceError as exc:
            await tape.hand_over()
            problem = exc.to_problem().model_dump_json()
            tape.keep("model", key, n, f'"problem":{problem},"pieces":{json.dumps(pieces)}')
            raise
        except (asyncio.CancelledError, GeneratorExit):
            tape.leave("model", key, n, pieces)
            raise
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`."""
        tape, n = self._tape, self._tape.number("about", "model")
        known = await tape.known("about", "model", n)
        if known is not None:
            return ModelInfo.model_validate(known.value)
        if self._model is None:
            raise await tape.missing("about", "model", n, "what the model can do")
        return await tape.asked(
            "about", "model", n, self._model.describe(), ModelInfo.model_dump_json
        )


class RecordedRetriever:
    """See `Retriever`."""

    def __init__(self, retriever: Retriever | None, tape: Tape) -> None:
        self._retriever = retriever
        self._tape = tape

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResult:
        """See `Retriever.retrieve`."""
        tape, key = self._tape, key_of(request)
        n = tape.number("retrieve", key)
        known = await tape.known("retrieve", key, n)
        if known is not None:
            return RetrieveResult.model_validate(known.value)
        if self._retriever is None:
            raise await tape.missing("retrieve", key, n, repr(request.query[:200]))
        return await tape.asked(
            "retrieve", key, n, self._retriever.retrieve(request), RetrieveResult.model_dump_json
        )

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        """See `Retriever.index`; no search asks for it."""
        return await _present(self._retriever).index(documents)

    async def status(self) -> IndexStatus | None:
        """See `Retriever.status`; no search asks for it."""
        return await _present(self._retriever).status()


class RecordedToolEnv:
    """See `ToolCaller`. A call that is not a read is announced to the record before it is made."""

    def __init__(self, toolenv: ToolCaller | None, tape: Tape) -> None:
        self._toolenv = toolenv
        self._tape = tape
        self._reads: set[ApiRef] = set()

    async def invoke(self, call: ToolCall) -> Observation:
        """See `ToolCaller.invoke`."""
        tape, key = self._tape, key_of(call)
        n = tape.number("tool", key)
        known = await tape.known("tool", key, n)
        if known is not None:
            return Observation.model_validate(known.value)
        if self._toolenv is None:  # the run ended during this call, and so does its replay
            what = f"{call.api} with {call.arguments_text[:200]!r}"
            raise await tape.missing("tool", key, n, what)
        if tape.was_begun(key, n):
            return self._unknown(key, n)
        if call.api not in self._reads:
            try:
                await tape.intend(key, n)
            except Unavailable as exc:
                raise NotMadeError(exc.detail) from exc
        live = self._toolenv.invoke(call)
        return await tape.asked("tool", key, n, live, Observation.model_dump_json)

    async def try_code(self, trial: Trial) -> Observation:
        """See `ToolCaller.try_code`; nothing outside the sandbox is changed by it."""
        tape, key = self._tape, key_of(trial)
        n = tape.number("tool", key)
        known = await tape.known("tool", key, n)
        if known is not None:
            return Observation.model_validate(known.value)
        if self._toolenv is None:
            raise await tape.missing("tool", key, n, f"a trial of {trial.function!r}")
        live = self._toolenv.try_code(trial)
        return await tape.asked("tool", key, n, live, Observation.model_dump_json)

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """See `ToolCaller.describe`."""
        tape, key = self._tape, key_of(*refs)
        n = tape.number("describe", key)
        known = await tape.known("describe", key, n)
        if known is not None:
            documents = _DOCUMENTS.validate_python(known.value)
        elif self._toolenv is None:
            raise await tape.missing("describe", key, n, ", ".join(str(ref) for ref in refs)[:200])
        else:
            live = self._toolenv.describe(refs)
            documents = await tape.asked("describe", key, n, live, _documents_json)
        self._reads |= {
            document.ref for document in documents if document.side_effect is SideEffect.READ
        }
        return documents

    def _unknown(self, key: str, n: int) -> Observation:
        observation = interrupted().observation
        self._tape.keep("tool", key, n, f'"value":{observation.model_dump_json()}')
        return observation


class RecordedApprovals(Approvals):
    """See `Approvals`; a recorded decision is there before anybody is asked."""

    def __init__(self, approvals: Approvals, tape: Tape) -> None:
        super().__init__()
        self._approvals = approvals
        self._tape = tape

    @contextmanager
    def register(self, run_id: RunId, call_id: int) -> Iterator[asyncio.Future[bool]]:
        """See `Approvals.register`."""
        known = self._tape.decision(call_id)
        with self._approvals.register(run_id, call_id) as decision:
            if known is not None:
                decision.set_result(known)
            yield decision
            if known is None and decision.done():
                self._tape.keep_decision(call_id, approve=decision.result())


def _deltas(known: Answer) -> Iterator[CompletionDelta]:
    """A recorded reply as it came, see `ChatModel.stream`.

    One that was asked for whole was made ahead of time, and passed on in one piece.

    Raises:
        ServiceError: The recorded one.
    """
    completion = Completion.model_validate(known.value) if known.problem is None else None
    pieces = known.pieces
    if pieces is None:
        text = completion.message.content if completion is not None else None
        pieces = (text,) if text else ()
    for piece in pieces:
        yield CompletionDelta(text=piece)
    if known.problem is not None:
        raise from_problem(known.problem)
    yield CompletionDelta(completion=completion)


def _documents_json(documents: Sequence[ApiDocument]) -> str:
    return _DOCUMENTS.dump_json(list(documents)).decode()


def _question(request: ChatRequest) -> str:
    last = request.messages[-1]
    return f"{len(request.messages)} messages, the last of {last.role}: {last.content or '':.200}"


def _present(port: T | None) -> T:
    if port is None:
        raise FailedPrecondition("a replay asks nobody")
    return port
