"""The identity dialect: messages and tools in OpenAI's JSON, for servers that parse themselves."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, JsonValue, field_validator

from services.contracts.base import ForeignModel
from services.contracts.llm import (
    ChatRequest,
    Completion,
    FunctionSchema,
    Message,
    MessageToolCall,
    Usage,
)

FinishReason = Literal["stop", "length", "tool_calls"]


def message_json(message: Message) -> dict[str, JsonValue]:
    """One message in OpenAI's form; `content` is always present, `null` included."""
    body: dict[str, JsonValue] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.name is not None:
        body["name"] = message.name
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def tool_json(function: FunctionSchema) -> dict[str, JsonValue]:
    """One function in OpenAI's form; its parameters are passed on as they are."""
    return {
        "type": "function",
        "function": {
            "name": function.name,
            "description": function.description,
            "parameters": function.parameters,
        },
    }


def messages_json(messages: Sequence[Message]) -> list[JsonValue]:
    """All messages in OpenAI's form."""
    return [message_json(message) for message in messages]


def sampling_json(request: ChatRequest, *, model: str) -> dict[str, JsonValue]:
    """The fields that chat and text completions share."""
    body: dict[str, JsonValue] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    return body


def chat_json(request: ChatRequest, *, model: str) -> dict[str, JsonValue]:
    """Body of `POST /chat/completions`."""
    body = sampling_json(request, model=model)
    body["messages"] = messages_json(request.messages)
    if request.tools:
        body["tools"] = [tool_json(function) for function in request.tools]
        if request.tool_choice != "auto":  # "auto" is the default where tools are present
            body["tool_choice"] = request.tool_choice
    return body


class _Function(ForeignModel):
    name: str | None = None
    arguments: str = ""

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """Some servers send the arguments as an object, some `null`."""
        if isinstance(value, str):
            return value
        return "" if value is None else json.dumps(value)


class _ToolCall(ForeignModel):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


class _ReplyMessage(ForeignModel):
    content: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None


class _Usage(ForeignModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Choice(ForeignModel):
    message: _ReplyMessage = _ReplyMessage()
    delta: _ReplyMessage = _ReplyMessage()
    text: str | None = None
    finish_reason: str | None = None


class ReplyBody(ForeignModel):
    """Answer of a completions route, or one chunk of its stream."""

    choices: tuple[_Choice, ...] = Field(default=(), max_length=16)
    usage: _Usage | None = None
    error: JsonValue = None

    def usage_counts(self) -> Usage:
        """Token counts; zero where the server gives none."""
        if self.usage is None:
            return Usage()
        return Usage(
            prompt_tokens=max(self.usage.prompt_tokens or 0, 0),
            completion_tokens=max(self.usage.completion_tokens or 0, 0),
        )


def finish_reason_of(reason: str | None, message: Message) -> FinishReason:
    """Our closed set from a server's open one.

    `length` is kept where there are calls too: the last one may be cut off. Else a call wins,
    whatever the server says.
    """
    if reason == "length":
        return "length"
    return "tool_calls" if message.tool_calls else "stop"


def completion_of(body: ReplyBody) -> Completion:
    """The reply in a whole (not streamed) chat answer; `body.choices` is not empty."""
    assembler = ChatAssembler()
    choice = body.choices[0]
    assembler.add_message(choice.message)
    assembler.finish_reason = choice.finish_reason
    assembler.usage = body.usage_counts()
    return assembler.completion()


@dataclass(slots=True)
class _OpenCall:
    id: str | None = None
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ChatAssembler:
    """Joins the chunks of one streamed chat reply."""

    finish_reason: str | None = None
    usage: Usage = Usage()
    _has_content: bool = False
    _content: list[str] = field(default_factory=list)
    _calls: dict[int, _OpenCall] = field(default_factory=dict)

    def add(self, chunk: ReplyBody) -> str:
        """Take one chunk and return the text it adds to the reply's content."""
        if chunk.usage is not None:
            self.usage = chunk.usage_counts()
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.add_message(choice.delta)
        return choice.delta.content or ""

    def add_message(self, piece: _ReplyMessage) -> None:
        """Append a message piece: a delta of a stream, or a whole message."""
        if piece.content is not None:
            self._has_content = True
            self._content.append(piece.content)
        for call in piece.tool_calls or ():
            self._add_call(call)

    def _add_call(self, piece: _ToolCall) -> None:
        call = self._calls.setdefault(self._index_of(piece), _OpenCall())
        call.id = call.id or piece.id
        if piece.function.name and not call.name:
            call.name = piece.function.name
        call.arguments.append(piece.function.arguments)

    def _index_of(self, piece: _ToolCall) -> int:
        """The piece's index; servers that leave it out start a call with a new id or name."""
        if piece.index is not None:
            return piece.index
        last = max(self._calls, default=-1)
        if last < 0:
            return 0
        if piece.id is None:
            return last + 1 if piece.function.name else last
        return last if piece.id == self._calls[last].id else last + 1

    def completion(self) -> Completion:
        """The reply so far."""
        calls = tuple(
            MessageToolCall(
                id=call.id or f"call_{index}", name=call.name, arguments="".join(call.arguments)
            )
            for index, call in sorted(self._calls.items())
        )
        content = "".join(self._content) if self._has_content else None
        message = Message(role="assistant", content=content, tool_calls=calls)
        return Completion(
            message=message,
            usage=self.usage,
            finish_reason=finish_reason_of(self.finish_reason, message),
        )
