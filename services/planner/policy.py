"""The policy: asks the language model for the next step of a trajectory."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.llm import (
    ChatModel,
    ChatRequest,
    Completion,
    FunctionSchema,
    Message,
)
from services.planner.budget import Budget

OnText = Callable[[str], Awaitable[None]]
"""Is told each piece of a reply while it is written."""


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

    async def ask(
        self, messages: tuple[Message, ...], *, on_text: OnText | None = None
    ) -> Completion:
        """Sample the next step with the run's functions; the reply is booked on the budget.

        Args:
            messages: The conversation, as the model sees it.
            on_text: Given only when the run streams its replies.

        Raises:
            ContextOverflow: The model refused a conversation that it had accepted when shorter.
            ServiceError: The model cannot work.
            BudgetSpent: The run's deadline came first.
        """
        request = self.request(messages, tools=self._tools)
        try:
            completion = await self._sampled(request, on_text)
        except InvalidArgument as exc:
            if not any(message.role == "assistant" for message in messages):
                raise  # even the first step was refused: that is no matter of length
            raise ContextOverflow(exc.detail) from exc
        self._budget.count_reply(completion.usage)
        return completion

    async def complete(
        self,
        messages: tuple[Message, ...],
        *,
        tools: tuple[FunctionSchema, ...] = (),
        tool_choice: Literal["auto", "none", "required"] = "none",
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Completion:
        """Sample a reply to a question of the search's own; booked on the budget.

        Args:
            messages: The question with its context.
            tools: Functions to show; none by default.
            tool_choice: Whether the reply may call them.
            max_tokens: Longest reply; the run's own limit when `None`.
            temperature: The run's own when `None`.

        Raises:
            ServiceError: The model cannot work; `InvalidArgument` also when the question is too
                long for it.
            BudgetSpent: The run's deadline came first.
        """
        request = self.request(messages, tools=tools).model_copy(
            update={
                "tool_choice": tool_choice,
                "max_tokens": max_tokens or self._sampling.max_tokens,
                "temperature": self._sampling.temperature if temperature is None else temperature,
            }
        )
        completion = await self._sampled(request, None)
        self._budget.count_reply(completion.usage)
        return completion

    def request(
        self, messages: tuple[Message, ...], *, tools: tuple[FunctionSchema, ...]
    ) -> ChatRequest:
        """What the model is asked."""
        sampling = self._sampling
        return ChatRequest(
            messages=messages,
            tools=tools,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            session=sampling.session,
        )

    async def _sampled(self, request: ChatRequest, on_text: OnText | None) -> Completion:
        if on_text is None or not self._sampling.stream:
            async with self._budget.wait():
                return await self._model.complete(request)
        pieces = self._model.stream(request)
        completion: Completion | None = None
        try:
            while True:
                async with self._budget.wait():
                    delta = await anext(pieces, None)
                if delta is None:
                    break
                completion = delta.completion or completion
                if delta.text:
                    await on_text(delta.text)
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()  # a caller that leaves must not keep the model busy
        if completion is None:
            raise Unavailable("the model's stream ended without a whole reply")
        return completion
