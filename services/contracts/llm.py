"""Contract of the language-model service: OpenAI messages and tool calls for any model."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol

from pydantic import Field, JsonValue

from services.contracts.base import ForeignModel, WireModel

Role = Literal["system", "user", "assistant", "tool"]


class MessageToolCall(ForeignModel):
    """One call in an assistant message."""

    id: str
    name: str
    arguments: str
    """The model's text, verbatim: usually JSON, possibly not."""


class Message(ForeignModel):
    """One chat message."""

    role: Role
    content: str | None = None
    name: str | None = None
    """Function name, on `tool` messages only."""
    tool_calls: tuple[MessageToolCall, ...] = ()
    tool_call_id: str | None = None
    """Which call a `tool` message answers."""


class FunctionSchema(ForeignModel):
    """A function the model may call. `parameters` is JSON Schema, or ToolBench's variant of it."""

    name: str
    description: str
    parameters: dict[str, JsonValue]


class ChatRequest(WireModel):
    """One sampling request."""

    messages: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[FunctionSchema, ...] = ()
    """In the order they are shown to the model."""
    tool_choice: Literal["auto", "none", "required"] = "auto"
    max_tokens: int = Field(default=512, ge=1, le=32_768)
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    session: str | None = None
    """Requests of one session share long prefixes; an engine may keep its cache for them."""


class Usage(ForeignModel):
    """Token counts of one reply or the sum over several."""

    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)

    @property
    def total_tokens(self) -> int:
        """Prompt plus completion."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        """Sum of both."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class Completion(ForeignModel):
    """One sampled assistant message."""

    message: Message
    usage: Usage = Usage()
    finish_reason: Literal["stop", "length", "tool_calls"] = "stop"
    raw_text: str | None = None
    """What the model wrote before a dialect parsed it; `None` when the backend parses itself."""


class CompletionDelta(ForeignModel):
    """A piece of a streamed reply; exactly the last one carries the whole `completion`."""

    text: str = ""
    completion: Completion | None = None


class ModelInfo(ForeignModel):
    """Which model answers, and what it can do."""

    model: str = "unknown"
    engine: str = "unknown"
    """`transformers` or `openai`."""
    dialect: str = "openai"
    """How conversations become text: `openai` when the backend does it itself."""
    constrain: str = "none"
    """Part of a reply that decoding forces to be valid: `none`, `names` or `values`."""
    context_tokens: int | None = None
    """Prompt and reply together; `None` when the backend does not say."""
    follows_instructions: bool = True
    """It answers free questions (rank, plan, reflect), not only the next call. A search that needs
    such answers refuses a model that cannot give them."""


class ChatModel(Protocol):
    """Samples replies for conversations. Safe to call concurrently."""

    async def complete(self, request: ChatRequest) -> Completion:
        """Sample one reply.

        Raises:
            InvalidArgument: The prompt does not fit the context window.
            ResourceExhausted: The engine's queue is full.
            DeadlineExceeded: No reply before the request's deadline.
            Unavailable: The backend cannot be reached or answers nonsense.
        """
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """Sample one reply and yield it as it grows; raises as `complete`."""
        ...

    async def describe(self) -> ModelInfo:
        """Which model answers, and what it can do; quick after the first time.

        What the backend does not tell is left at its default.

        Raises:
            Unavailable: The service cannot be reached.
            DeadlineExceeded: It did not answer in time.
        """
        ...
