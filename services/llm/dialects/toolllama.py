"""ToolLLaMA's text format: prompts as its training data had them, ReAct text back.

Source: Qin et al. 2023, "ToolLLM", and ToolBench's conversation template
`tool-llama-single-round`; the format is described in the interoperability notes, section 4.2.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from services.contracts.llm import ChatRequest, FunctionSchema, Message, MessageToolCall
from services.llm.dialects.base import ReplyParser, next_call_id
from services.llm.dialects.react_text import ReactTextParser, ReferenceReactParser

History = Literal["training", "thoughts", "raw"]

# The misspelling is the checkpoint's: the format block follows this sentence of its prompt.
_ANCHOR = "with a function call to actually excute your step."
_FORMAT = "Your output should follow this format:\nThought:\nAction\nAction Input:\n"
_APIS = "\nSpecifically, you have access to the following APIs: "
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Function"}
_GENERATION_PROMPTS: dict[History, str] = {
    "training": "Assistant: \n",
    "thoughts": "Assistant:\n",
    "raw": "Assistant:\n",
}


class ToolLlamaDialect:
    """See `TextDialect`."""

    def __init__(self, *, history: History = "training", reference_parser: bool = False) -> None:
        """Choose how closely the reference's inference is followed.

        Args:
            history: Form of earlier assistant turns: `training` as in the training text;
                `thoughts` (ToolBench's inference) drops their actions; `raw`
                (StableToolBench's) leaves out the line break before them.
            reference_parser: Read replies as ToolBench does, garbage included.
        """
        self._history: History = history
        self._reference_parser = reference_parser

    @property
    def name(self) -> str:
        """See `TextDialect.name`."""
        return "toolllama"

    @property
    def stop(self) -> tuple[str, ...]:
        """See `TextDialect.stop`."""
        return ("</s>",)

    def parser(self, request: ChatRequest) -> ReplyParser:
        """See `TextDialect.parser`."""
        call_id = next_call_id(request.messages)
        if self._reference_parser:
            return ReferenceReactParser(call_id=call_id)
        return ReactTextParser(call_id=call_id)

    def render(self, request: ChatRequest) -> str:
        """See `TextDialect.render`."""
        messages = list(_single_call_messages(request.messages))
        if messages[0].role != "system":
            messages.insert(0, Message(role="system", content=""))
        system = _system_text(messages[0].content or "", request.tools)
        turns = [_turn("System", system), *self._turns(messages[1:])]
        return "".join(turns) + _GENERATION_PROMPTS[self._history]

    def _turns(self, messages: Sequence[Message]) -> Iterator[str]:
        thought = ""
        for index, message in enumerate(messages):
            if message.role != "assistant":
                yield _turn(_ROLES[message.role], message.content or "")
                continue
            thought = "\n".join(filter(None, (thought, message.content)))
            following = messages[index + 1].role if index + 1 < len(messages) else None
            if not message.tool_calls and following == "assistant":
                continue  # trained text has one turn for a thought and the call after it
            yield _turn("Assistant", self._assistant_text(thought, message.tool_calls))
            thought = ""

    def _assistant_text(self, thought: str, calls: Sequence[MessageToolCall]) -> str:
        if self._history == "thoughts":
            return thought
        text = f"Thought: {thought}"
        for call in calls:
            text += f"\nAction: {call.name}\nAction Input: {call.arguments}"
        return text if self._history == "raw" else f"\n{text}"


def _turn(role: str, text: str) -> str:
    return f"{role}: {text}\n" if text else f"{role}:"


def _system_text(text: str, tools: Sequence[FunctionSchema]) -> str:
    before, anchor, after = text.partition(_ANCHOR)
    if anchor:
        text = f"{before}{anchor} {_FORMAT}{after}"
    else:
        text = f"{text}\n{_FORMAT}" if text else _FORMAT
    # str() of Python values, quotes and True/None included, is what the checkpoint has seen.
    return f"{text}{_APIS}{[tool.model_dump() for tool in tools]}"


def _single_call_messages(messages: Sequence[Message]) -> Iterator[Message]:
    """Messages in which each call has its own turn, followed by its answer.

    The text format knows one action a step; parallel calls become steps without a thought.
    """
    held: dict[str, MessageToolCall] = {}
    for message in messages:
        if message.role == "tool" and message.tool_call_id in held:
            call = held.pop(message.tool_call_id)
            yield Message(role="assistant", tool_calls=(call,))
        if len(message.tool_calls) > 1:
            held = {call.id: call for call in message.tool_calls[1:]}
            message = message.model_copy(update={"tool_calls": message.tool_calls[:1]})
        yield message
