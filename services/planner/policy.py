"""The policy: asks the language model for the next step of a trajectory."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.llm import (
    ChatModel,
    ChatRequest,
    CompletionDelta,
    FunctionSchema,
    Message,
)
from services.planner.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How replies are sampled."""

    max_tokens: int = 512
    """Longest reply."""
    temperature: float = 0.0
    seed: int | None = None
    stream: bool = False
    """Ask for the reply piece by piece."""
    session: str | None = None
    """Requests of one run share long prefixes; the engine may keep its cache for them."""


class ContextOverflow(Exception):
    """The conversation below the first step does not fit the model; the branch ends here."""


class Policy:
    """The model with one run's functions. Books every reply on the budget."""

    def __init__(
        self,
        *,
        model: ChatModel,
        tools: tuple[FunctionSchema, ...],
        budget: Budget,
        sampling: Sampling,
    ) -> None:
        self._model = model
        self._tools = tools
        self._budget = budget
        self._sampling = sampling

    async def ask(self, messages: tuple[Message, ...]) -> AsyncGenerator[CompletionDelta, None]:
        """Sample one reply; the last piece, and only it, carries the whole.

        Raises:
            ContextOverflow: The model refused a conversation that it had accepted when shorter.
            ServiceError: The model cannot work.
            BudgetSpent: The run's deadline came first.
        """
        request = self._request(messages)
        try:
            if not self._sampling.stream:
                async with self._budget.wait():
                    completion = await self._model.complete(request)
                yield CompletionDelta(completion=completion)
                return
            async with aclosing(self._streamed(request)) as deltas:
                async for delta in deltas:
                    yield delta
        except InvalidArgument as exc:
            if not any(message.role == "assistant" for message in messages):
                raise  # even the first step was refused: that is no matter of length
            raise ContextOverflow(exc.detail) from exc

    async def _streamed(self, request: ChatRequest) -> AsyncGenerator[CompletionDelta, None]:
        pieces = self._model.stream(request)
        is_whole = False
        try:
            while True:
                async with self._budget.wait():
                    delta = await anext(pieces, None)
                if delta is None:
                    break
                is_whole = is_whole or delta.completion is not None
                yield delta
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()  # a caller that leaves must not keep the model busy
        if not is_whole:
            raise Unavailable("the model's stream ended without a whole reply")

    def _request(self, messages: tuple[Message, ...]) -> ChatRequest:
        sampling = self._sampling
        return ChatRequest(
            messages=messages,
            tools=self._tools,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            session=sampling.session,
        )
