"""`LlmService`: the `ChatModel` port over one engine, with limits on requests."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from services.contracts.context import remaining_s
from services.contracts.errors import PayloadTooLarge
from services.contracts.llm import ChatRequest, Completion, CompletionDelta, ModelInfo
from services.llm.admission import Admission
from services.llm.engines.base import Engine

_MAX_REQUEST_CHARS = 1 << 20  # of all messages: what the HTTP body's limit allows, in process too


class LlmService:
    """See `ChatModel`. Safe to call concurrently; the engine belongs to the caller."""

    def __init__(self, *, engine: Engine, max_inside: int) -> None:
        """Serve an engine.

        Args:
            engine: Does the sampling, and keeps the request's deadline.
            max_inside: Requests in work and waiting, >= 1; one more is refused.
        """
        self._engine = engine
        self._admission = Admission(max_inside=max_inside)

    @property
    def info(self) -> ModelInfo:
        """Which model answers, as far as that is known without asking a server."""
        return self._engine.info

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`."""
        return await self._engine.describe()

    async def check_ready(self) -> None:
        """See `Engine.check_ready`."""
        await self._engine.check_ready()

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`."""
        _require_acceptable(request)
        with self._admission.enter():
            return await self._engine.complete(request)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """See `ChatModel.stream`."""
        _require_acceptable(request)
        with self._admission.enter():
            deltas = self._engine.stream(request)
            async with aclosing(deltas):  # type: ignore[type-var]  # an async generator, closable
                async for delta in deltas:
                    yield delta


def _require_acceptable(request: ChatRequest) -> None:
    """Refuse what is too large, or too late, before it takes a place.

    Raises:
        PayloadTooLarge: The messages exceed the limit.
        DeadlineExceeded: The deadline has passed.
    """
    remaining_s(at_most_s=1.0)
    n_chars = sum(len(message.content or "") for message in request.messages)
    if n_chars > _MAX_REQUEST_CHARS:
        raise PayloadTooLarge(
            f"the messages have {n_chars} characters, the limit is {_MAX_REQUEST_CHARS}; "
            "shorten the observations"
        )
