"""Calls made before their time, for the mode `speculative`.

What a search asks when it comes back to a node is known long before it does: the words depend on
the node's earlier children only. The bet is that it will come back. It is made by running the very
same search ahead, on a copy of the node and over ports that keep what they are told. When the real
search then makes a request that is equal to a kept one, it is given that answer; every other
request is made as ever. So the tree is that of the mode `exact`, whatever was guessed: the same
requests in the same order, counted on the budget when they are used.

Each kept answer is used once. Only APIs that change nothing are called ahead of time, and what they
answered is out of date when the run changes something: it is dropped when a change begins and when
it ends, since what is seen meanwhile may be of before or after it. That holds for all tools, as
nobody knows which of them share what lies behind them. Model replies follow from the request alone
and stay.

How many model calls may be lost is bounded twice: for each run by what the search says
(`Speculation.bound`) and for all runs together by an `Allowance`. Where a limit holds that lost
calls would use up, none are made: model calls under `max_cost_usd`, tool calls under
`max_tool_calls`. So the tree is that of `exact` under every limit but that of time.

Source: our own; the idea is that of speculative execution (e.g. Leviathan et al. 2023 for tokens):
guess ahead, and keep only what the exact process would have done.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import structlog

from services.contracts.apis import ApiDocument, ApiRef, SideEffect
from services.contracts.errors import ServiceError
from services.contracts.llm import (
    ChatModel,
    ChatRequest,
    Completion,
    CompletionDelta,
    ModelInfo,
)
from services.contracts.planner import Limits
from services.contracts.toolenv import Observation, ToolCall, ToolCaller, Trial
from services.planner.action_space import ActionSpace
from services.planner.budget import Budget, BudgetSpent

Q = TypeVar("Q")
A = TypeVar("A")
log = structlog.get_logger()


class GuessEndsError(Exception):
    """Nothing more may be found out ahead of time on this way."""


@dataclass(slots=True)
class Allowance:
    """How many model calls may be made for nothing; shared by the runs of one planner.

    While the calls that ended runs left unused exceed `share` of the calls used plus `advance`, no
    further call is made ahead of time. So the extra load on the model is bounded whatever the runs
    do: by this share, and by the bounds of the runs that are going on.
    """

    share: float = 0.27
    """Lost calls per used call, in [0, 1]."""
    advance: int = 8
    """Lost calls that are allowed on top, so that the first runs can bet at all."""
    used: int = 0
    lost: int = 0

    @property
    def has_room(self) -> bool:
        """One more call may be made ahead of time."""
        return self.lost <= self.share * self.used + self.advance


@dataclass(slots=True, eq=False)
class _Call(Generic[Q, A]):
    request: Q
    answer: asyncio.Future[A]
    """Cancelled when the call failed."""
    is_used: bool
    """The search made it itself, or was given its answer."""


class _Kept(Generic[Q, A]):
    """One run's requests to one port, with their answers."""

    def __init__(self, ask: Callable[[Q], Awaitable[A]], key: Callable[[Q], Hashable]) -> None:
        """Keep nothing yet.

        Args:
            ask: The port.
            key: Cheap, and the same for equal requests; those that share it are compared in full.
        """
        self._ask = ask
        self._key = key
        self._calls: dict[Hashable, list[_Call[Q, A]]] = {}
        self.n_unused = 0
        """Calls made ahead that served nothing yet; failed and forgotten ones never do."""

    def find(self, request: Q, *, unused: bool) -> _Call[Q, A] | None:
        """An equal call that did not fail; with `unused`, one that served nothing yet."""
        for call in self._calls.get(self._key(request), ()):
            is_wanted = not (unused and call.is_used) and not call.answer.cancelled()
            if is_wanted and call.request == request:
                return call
        return None

    def unused(self) -> list[A]:
        """Answers that served nothing."""
        every = [call for calls in self._calls.values() for call in calls]
        return [
            call.answer.result()
            for call in every
            if not call.is_used and call.answer.done() and not call.answer.cancelled()
        ]

    def forget(self) -> None:
        """Answers so far are out of date, and those of calls under way will be."""
        self._calls.clear()

    async def answer(self, request: Q) -> A:
        """What the search is told: the answer of an unused equal call, else that of a new one."""
        call = self.find(request, unused=True)
        if call is not None:
            call.is_used = True
            self.n_unused -= 1
            answer = await _answer_of(call)
            if answer is not None:
                return answer
            self.n_unused += 1
        return await self.make(request, is_used=True)

    async def make(self, request: Q, *, is_used: bool) -> A:
        """Make a call now."""
        self.n_unused += not is_used
        call = _Call(request, asyncio.get_running_loop().create_future(), is_used)
        self._calls.setdefault(self._key(request), []).append(call)
        try:
            answer = await self._ask(request)
        except BaseException:
            call.answer.cancel()  # who waits for it asks for itself
            raise
        call.answer.set_result(answer)
        return answer


async def _answer_of(call: _Call[Q, A]) -> A | None:
    """What a call came to; `None` when it failed."""
    await asyncio.wait([call.answer])
    return None if call.answer.cancelled() else call.answer.result()


class PortsAhead(NamedTuple):
    """What a search that runs ahead calls."""

    model: ChatModel
    toolenv: ToolCaller


class Speculation:
    """One run's calls ahead of time; see the module. For one event loop."""

    def __init__(
        self, *, model: ChatModel, toolenv: ToolCaller, allowance: Allowance, limits: Limits
    ) -> None:
        """Bind the ports, which belong to the caller; nothing is asked yet."""
        self.model: ChatModel = _Model(self._complete, model, self._comes_whole)
        """For the search itself."""
        self.toolenv: ToolCaller = _Tools(self._invoke, toolenv)
        """For the search itself."""
        self._ports = PortsAhead(model, toolenv)
        self._allowance = allowance
        self._limits = limits
        self._reads: frozenset[ApiRef] = frozenset()
        self._completions = _Kept(model.complete, _request_key)
        self._observations = _Kept(toolenv.invoke, _call_key)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bound = 0
        self._group: asyncio.TaskGroup | None = None

    def bound(self, n_unused: int) -> None:
        """Let at most so many of the run's model calls ahead be unused at a time, from now on."""
        self._bound = n_unused

    @property
    def has_room(self) -> bool:
        """One more model call may be made ahead of time."""
        is_free = self._limits.max_cost_usd is None  # else the run would pay with calls of its own
        return is_free and self._completions.n_unused < self._bound and self._allowance.has_room

    def ports_ahead(self, space: ActionSpace) -> PortsAhead:
        """Ports for searches ahead; both raise `GuessEndsError` where those have to stop.

        Args:
            space: Says which APIs are reads; until then none is. One that undoes the change of
                another is none, whatever its method promises.
        """
        model, toolenv = self._ports
        inverses = {each.inverse.api for each in space.documents if each.inverse is not None}
        self._reads = frozenset(
            document.ref for document in space.documents if document.side_effect is SideEffect.READ
        ).difference(inverses)
        return PortsAhead(
            _Model(self._complete_ahead, model, lambda _: True),
            _Tools(self._invoke_ahead, toolenv),
        )

    @asynccontextmanager
    async def open(self, budget: Budget) -> AsyncGenerator[None, None]:
        """Searches may run ahead inside the block; at its end they are cancelled.

        Args:
            budget: Told of the calls that served nothing, and of the model's tokens as far as they
                are known: a call that was cancelled has no count.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                try:
                    yield
                finally:
                    for task in self._tasks:
                        task.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        finally:
            self._allowance.lost += self._completions.n_unused
            budget.extra_llm_calls += self._completions.n_unused
            budget.extra_tool_calls += self._observations.n_unused
            for completion in self._completions.unused():
                budget.extra_usage = budget.extra_usage + completion.usage

    def start(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run a search ahead of time, until it ends or may find out no more."""
        if self._group is not None:
            task = self._group.create_task(_until_end(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def read(self, call: ToolCall, budget: Budget) -> None:
        """Make a call that changes nothing ahead of time; work for `start`."""
        async with budget.wait():
            await self._invoke_ahead(call)

    def _comes_whole(self, request: ChatRequest) -> bool:
        if self._completions.find(request, unused=True) is not None:
            return True
        self._allowance.used += 1  # the stream is asked, past `_complete`
        return False

    async def _complete(self, request: ChatRequest) -> Completion:
        self._allowance.used += 1
        return await self._completions.answer(request)

    async def _complete_ahead(self, request: ChatRequest) -> Completion:
        call = self._completions.find(request, unused=False)
        if call is not None:
            answer = await _answer_of(call)
            if answer is not None:
                return answer
        if not self.has_room:
            raise GuessEndsError
        return await self._completions.make(request, is_used=False)

    async def _invoke(self, call: ToolCall) -> Observation:
        if call.api in self._reads:
            return await self._observations.answer(call)
        self._observations.forget()
        try:
            return await self._ports.toolenv.invoke(call)
        finally:
            self._observations.forget()

    async def _invoke_ahead(self, request: ToolCall) -> Observation:
        if request.api not in self._reads:
            raise GuessEndsError
        call = self._observations.find(request, unused=False)
        if call is not None:
            answer = await _answer_of(call)
            if answer is not None:
                return answer
        if self._limits.max_tool_calls is not None:
            raise GuessEndsError
        return await self._observations.make(request, is_used=False)


async def _until_end(work: Callable[[], Coroutine[object, object, None]]) -> None:
    try:
        await work()
    except (GuessEndsError, BudgetSpent, ServiceError):
        return  # the search itself will find out
    except Exception:
        log.exception("guess_failed")  # a defect; a run must not end by what it does not need


def _request_key(request: ChatRequest) -> Hashable:
    last = request.messages[-1]
    return len(request.messages), last.role, last.content


def _call_key(call: ToolCall) -> Hashable:
    return call.api.tool, call.api.api, call.arguments_text


class _Model:
    """A `ChatModel` that is asked through a function."""

    def __init__(
        self,
        ask: Callable[[ChatRequest], Awaitable[Completion]],
        model: ChatModel,
        comes_whole: Callable[[ChatRequest], bool],
    ) -> None:
        self._ask = ask
        self._model = model
        self._comes_whole = comes_whole

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`."""
        return await self._ask(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[CompletionDelta, None]:
        """See `ChatModel.stream`; a reply that was made ahead of time comes in one piece."""
        if not self._comes_whole(request):
            pieces = self._model.stream(request)
            try:
                async for delta in pieces:
                    yield delta
            finally:
                if isinstance(pieces, AsyncGenerator):
                    await pieces.aclose()
            return
        completion = await self._ask(request)
        if completion.message.content:
            yield CompletionDelta(text=completion.message.content)
        yield CompletionDelta(completion=completion)

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`."""
        return await self._model.describe()


class _Tools:
    """A `ToolCaller` that is asked through a function."""

    def __init__(
        self, ask: Callable[[ToolCall], Awaitable[Observation]], toolenv: ToolCaller
    ) -> None:
        self._ask = ask
        self._toolenv = toolenv

    async def invoke(self, call: ToolCall) -> Observation:
        """See `ToolCaller.invoke`."""
        return await self._ask(call)

    async def try_code(self, trial: Trial) -> Observation:
        """See `ToolCaller.try_code`."""
        return await self._toolenv.try_code(trial)

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """See `ToolCaller.describe`."""
        return await self._toolenv.describe(refs)
