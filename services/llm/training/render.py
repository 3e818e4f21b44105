"""The bundled model's text format: what `chat_template.jinja` gives, several times faster.

The format has no system part: the model is tiny, was trained without one, and a system prompt of a
thousand characters would only cost it attention.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = (
    "str | int | float | bool | None | Sequence[JsonValue] | Mapping[str, JsonValue]"
)
JsonObject: TypeAlias = Mapping[str, JsonValue]

BEGIN = "<s>"
END = "</s>"
PADDING = "<pad>"
TOOLS = "<|tools|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
TOOL = "<|tool|>"
THOUGHT = "Thought: "
ACTION = "\nAction: "
ACTION_INPUT = "\nAction Input: "

FINISH = "Finish"
DESCRIPTION_LEAD = 'The description of this function is: "'
MAX_DESCRIPTION_CHARS = (
    80  # one short sentence; every offered API costs prompt tokens in every turn
)
BEGIN_LINE = "\nBegin!"


def _plain(text: str) -> str:
    """Break role markers in untrusted text, so that no tool output can open a turn."""
    return text.replace("<|", "< |").replace("<s>", "< s>").replace("</s>", "< /s>")


def short_description(description: str) -> str:
    """The part of a function description that the model sees: one bounded line."""
    if DESCRIPTION_LEAD in description:
        description = description.split(DESCRIPTION_LEAD)[-1]
        if description.endswith('"'):
            description = description[:-1]
    return description.strip().split("\n")[0][:MAX_DESCRIPTION_CHARS].strip()


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, Mapping) else {}


def _names(value: JsonValue) -> list[str]:
    return (
        [str(name) for name in value if name]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else []
    )


def render_tool(tool: JsonObject) -> str:
    """One line of the tool list; "" for `Finish`, which every turn offers."""
    function = _object(tool.get("function", tool))
    name = str(function.get("name", ""))
    if name == FINISH:
        return ""
    parameters = _object(function.get("parameters"))
    required = _names(parameters.get("required"))
    optional = [key for key in _object(parameters.get("properties")) if key not in required]
    arguments = ", ".join(required) + ("; " + ", ".join(optional) if optional else "")
    return (
        _plain(f"{name}({arguments}) {short_description(str(function.get('description') or ''))}")
        + "\n"
    )


def render_instruction(content: str) -> str:
    """A user message without ToolBench's trailing `Begin!` line."""
    content = content.strip()
    return _plain(
        content.removesuffix(BEGIN_LINE).rstrip() if content.endswith(BEGIN_LINE) else content
    )


def render_call(message: JsonObject) -> str:
    """One assistant turn after its role marker: thought, action, arguments and the end token."""
    calls = message.get("tool_calls")
    first = calls[0] if isinstance(calls, Sequence) and not isinstance(calls, str) and calls else {}
    function = _object(_object(first).get("function"))
    arguments = function.get("arguments", "")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    thought = str(message.get("content") or "")
    name = str(function.get("name", ""))
    return f"{THOUGHT}{_plain(thought)}{ACTION}{_plain(name)}{ACTION_INPUT}{_plain(text)}{END}"


def render_message(message: JsonObject) -> str:
    """One message with its role marker; system messages give ""."""
    role, content = message.get("role"), str(message.get("content") or "")
    if role == "user":
        return USER + render_instruction(content)
    if role == "assistant":
        return ASSISTANT + render_call(message)
    if role == "tool":
        return TOOL + _plain(content)
    return ""


def render_conversation(
    messages: Sequence[JsonObject],
    tools: Sequence[JsonObject] = (),
    *,
    add_generation_prompt: bool = False,
) -> str:
    """The whole prompt or training text of one conversation.

    Args:
        messages: OpenAI messages in order; an assistant message carries exactly one tool call.
        tools: OpenAI tool definitions in the order in which they are offered.
        add_generation_prompt: End with the assistant's role marker, ready for generation.
    """
    parts = [BEGIN]
    if tools:
        parts.append(TOOLS + "\n" + "".join(render_tool(tool) for tool in tools))
    parts.extend(render_message(message) for message in messages)
    if add_generation_prompt:
        parts.append(ASSISTANT)
    return "".join(parts)
