"""The policy: asks the language model for the next step of a trajectory.

What is sent begins like what was sent before on the same path, so that a server's prefix cache
hits; only a conversation that had to be shortened begins otherwise. What changes with every call
(the budget, when it is shown) stands last and in no history.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from services.contracts.errors import InvalidArgument, PayloadTooLarge, Unavailable
from services.contracts.llm import (
    ChatModel,
    ChatRequest,
    Completion,
    FunctionSchema,
    Message,
)
from services.planner.budget import Budget
from services.planner.reading import in_unicode
from services.planner.turn import TooLong, Turn, Turns, is_about_length

SAMPLE_TEMPERATURE: Final = 0.7  # of Yao et al. 2023 (Tree of Thoughts), section 4
_MAX_REPLY_TOKENS: Final = 32_768  # what a `ChatRequest` may ask for
_MAX_SHORTENED: Final = 2  # tries after a refusal: one with the server's number, one to spare
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
        turns: Turns | None = None,
        shows_budget: bool = False,
    ) -> None:
        """Bind the model to a run.

        Args:
            model: Samples the replies.
            tools: The run's functions, in the order shown.
            budget: Books them.
            sampling: How.
            turns: Fits conversations into the model's context; `None` leaves that to the model.
            shows_budget: Tell the model before each step what is left.
        """
        self._turns = turns or Turns()
        self._shows_budget = shows_budget
        self._model = model
        self._tools = tools
        self._budget = budget
        self._sampling = sampling

    @property
    def tools(self) -> tuple[FunctionSchema, ...]:
        """The run's functions, in the order shown."""
        return self._tools

    async def ask(
        self,
        messages: tuple[Message, ...],
        *,
        on_text: OnText | None = None,
        sample: int | None = None,
        longer: int = 1,
    ) -> Completion:
        """Sample the next step with the run's functions; the reply is booked on the budget.

        Args:
            messages: The conversation, as the model sees it.
            on_text: Given only when the run streams its replies.
            sample: Which of several independent samples for the same conversation, from 0: each
                has a seed of its own, and a temperature that lets them differ.
            longer: Times the run's own reply length that the reply may have, >= 1.

        A conversation too long for the model is shortened in what is sent.

        Raises:
            ContextOverflow: The model refused a conversation that it had accepted when shorter; the
                call is not booked yet.
            InvalidArgument: It refused the first step, which cannot be made shorter.
            ServiceError: The model cannot work.
            BudgetSpent: The run's deadline came first.
        """
        request = self.request(messages, tools=self._tools)
        if sample is not None:
            request = self._varied(request, sample)
        if longer > 1:
            length = min(request.max_tokens * longer, _MAX_REPLY_TOKENS)
            request = request.model_copy(update={"max_tokens": length})
        try:
            return await self._fitted(request, messages, self._tools, on_text, is_step=True)
        except InvalidArgument as exc:
            if any(message.role == "assistant" for message in messages):
                raise ContextOverflow(exc.detail) from exc
            raise self._first_refusal(exc, messages) from exc

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
        return await self._fitted(request, messages, tools, None, is_step=False)

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

    def _varied(self, request: ChatRequest, sample: int) -> ChatRequest:
        seed = (self._sampling.seed or 0) + sample
        temperature = max(self._sampling.temperature, SAMPLE_TEMPERATURE)
        return request.model_copy(update={"seed": seed, "temperature": temperature})

    async def _fitted(
        self,
        request: ChatRequest,
        messages: tuple[Message, ...],
        tools: tuple[FunctionSchema, ...],
        on_text: OnText | None,
        *,
        is_step: bool,
    ) -> Completion:
        """Send the request with as much of the conversation as the model's context holds.

        Args:
            request: How to sample, and the longest reply that is wanted.
            messages: The conversation; with `tools` the same objects from call to call.
            tools: The functions.
            on_text: See `ask`.
            is_step: The conversation is a node's history, to which later ones add.

        Raises:
            InvalidArgument: The model refused it, or would; the call is not booked.
        """
        wanted, n_shortened = request.max_tokens, 0
        turn = self._fit(messages, tools, wanted)
        while True:
            began = self._budget.seconds
            try:
                completion = await self._sampled(self._sent(request, turn, is_step), on_text)
            except (InvalidArgument, PayloadTooLarge) as exc:
                refused, n_shortened = turn, n_shortened + 1
                is_understood = self._turns.learn_refusal(refused, tools, exc.detail)
                if is_understood and n_shortened <= _MAX_SHORTENED:
                    turn = self._fit(messages, tools, wanted)
                if turn == refused:
                    raise InvalidArgument(exc.detail) from exc
                continue
            except BaseException:
                self._budget.forget_call()
                raise
            self._turns.learn(turn, tools, completion.usage.prompt_tokens, is_history=is_step)
            self._budget.count_reply(completion.usage, seconds=self._budget.seconds - began)
            return in_unicode(completion)

    def _fit(
        self, messages: tuple[Message, ...], tools: tuple[FunctionSchema, ...], wanted: int
    ) -> Turn:
        try:
            return self._turns.fit(messages, tools, wanted=wanted)
        except TooLong as exc:
            raise InvalidArgument(f"the conversation is too long: {exc}") from exc

    def _sent(self, request: ChatRequest, turn: Turn, is_step: bool) -> ChatRequest:
        messages = turn.messages
        if is_step and self._shows_budget:
            messages = (*messages, Message(role="user", content=self._budget.left()))
        elif not turn.is_compacted and turn.max_tokens == request.max_tokens:
            return request  # most turns are sent as they are, and a copy costs 10 us
        return request.model_copy(update={"messages": messages, "max_tokens": turn.max_tokens})

    def _first_refusal(
        self, refusal: InvalidArgument, messages: tuple[Message, ...]
    ) -> InvalidArgument:
        """Of a first step: nothing may be left out, so the caller must offer less."""
        if not is_about_length(refusal.detail):
            return refusal
        tokens = self._turns.estimate(messages, self._tools)
        context = self._turns.context_tokens
        return InvalidArgument(
            f"the instruction with {len(self._tools)} functions has about {tokens:.0f} tokens, "
            f"more than the model's context ({context or 'unknown'}) holds with a reply; lower "
            f"`top_k` or name fewer `apis` (the model says: {refusal.detail})"
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
