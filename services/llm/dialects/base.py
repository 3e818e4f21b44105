"""What a text dialect is: conversation to prompt, generated text to message."""

from collections.abc import Sequence
from typing import Protocol

from services.contracts.llm import ChatRequest, Message


class ReplyParser(Protocol):
    """Reads one reply as it grows. Never raises, and how the text is split changes nothing."""

    @property
    def is_complete(self) -> bool:
        """Whether no further text can change the message, so that sampling may stop."""
        ...

    def feed(self, text: str) -> None:
        """Take the next piece of the model's text."""
        ...

    def message(self) -> Message:
        """The message in the text so far; call it at the end of the text for the final one."""
        ...


class TextDialect(Protocol):
    """How one family of models reads a conversation and writes a call."""

    @property
    def name(self) -> str:
        """Stable name, as in settings and records."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts at which a reply ends."""
        ...

    def render(self, request: ChatRequest) -> str:
        """The whole prompt for a text-completion backend."""
        ...

    def parser(self, request: ChatRequest) -> ReplyParser:
        """A parser for the one reply to `request`."""
        ...


def next_call_id(messages: Sequence[Message]) -> str:
    """Id of the next call: its number in the conversation, so unique there and repeatable."""
    return f"call_{sum(len(message.tool_calls) for message in messages)}"
