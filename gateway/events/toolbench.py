"""Planner events as the lines of ToolBench's `/stream` (interop section 6.2).

The chat UI's parser dictates details that look arbitrary: the recommendation block comes first,
`depth` rises by at most one from block to block, `output` of the last event is strict JSON, and no
other block id may contain `llm`, `tool` or `recommendation`.
"""

import json
import math

from pydantic import JsonValue

from services.contracts.llm import FunctionSchema, Message
from services.contracts.planner import (
    ExpansionFinished,
    ExpansionStarted,
    HistoryMessage,
    ModelReplied,
    PlanEvent,
    Retrieved,
    RunEnded,
    ToolFinished,
    ToolStarted,
)

_UNITS_PER_STEP = 3  # thought, action and input: one step of ToolLLaMA
_UNKNOWN_TOOL = "Tool not found in tool descriptions"

Line = dict[str, JsonValue]


def retrieval_started() -> Line:
    """The first line of every stream, sent before any work is done."""
    return {"method_name": "on_tool_retrieval_start", "block_id": "recommendation-1"}


def request_error(text: str) -> Line:
    """The line that replaces the reference's silence on failure."""
    return {"method_name": "on_request_error", "block_id": "error", "error": text}


def encode(line: Line) -> str:
    """A line's text: strict JSON in ASCII, without the newline."""
    try:
        return json.dumps(line, allow_nan=False)
    except ValueError:  # a tool document may say NaN, which no browser's parser takes
        return json.dumps(_finite(line), allow_nan=False)


def _finite(value: JsonValue) -> JsonValue:
    """The value with `null` for numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class ToolBenchTranslator:
    """Translates one run. Keeps the histories that the planner sends as deltas."""

    def __init__(self, *, instruction: str, method: str) -> None:
        self._instruction = instruction
        self._method = method
        self._histories: dict[int, list[JsonValue]] = {}
        self._functions: dict[str, JsonValue] = {}
        self._depths: dict[int, int] = {}
        """Depth shown for each expansion."""
        self._node_depths: dict[int, int] = {}
        """Depth shown for each node that was expanded."""
        self._last_depth = -1

    def translate(self, event: PlanEvent) -> list[Line]:
        """Lines for one event, possibly none."""
        if isinstance(event, Retrieved):
            return self._retrieved(event)
        if isinstance(event, ExpansionStarted):
            return self._expansion_started(event)
        if isinstance(event, ModelReplied):
            response = legacy_message(event.message)
            return [self._llm("on_llm_end", event.expansion, {"response": response})]
        if isinstance(event, ToolStarted):
            return self._tool_started(event)
        if isinstance(event, ToolFinished):
            payload: Line = {"output": event.observation, "status": event.code}
            return [self._tool("on_tool_end", event.call_id, event.expansion, payload)]
        if isinstance(event, ExpansionFinished):
            return self._expansion_finished(event)
        if isinstance(event, RunEnded):
            return [self._ended(event)]
        return []  # model deltas: the protocol has no event for them

    def _retrieved(self, event: Retrieved) -> list[Line]:
        self._functions = {function.name: _function(function) for function in event.functions}
        return [
            {
                "method_name": "on_tool_retrieval_end",
                "block_id": "recommendation-1",
                "recommendations": list(self._functions.values()),
            },
            {
                "method_name": "on_request_start",
                "block_id": "start",
                "user_input": self._instruction,
                "method": self._method,
            },
        ]

    def _expansion_started(self, event: ExpansionStarted) -> list[Line]:
        base = [] if event.base_node_id is None else self._histories.get(event.base_node_id, [])
        history = [*base, *(_history_message(message) for message in event.messages)]
        self._histories[event.node_id] = history
        self._depths[event.expansion] = self._last_depth = self._shown_depth(event)
        payload: Line = {"messages": history}
        return [
            self._llm("on_chain_start", event.expansion, payload),
            self._llm("on_llm_start", event.expansion, payload),
        ]

    def _shown_depth(self, event: ExpansionStarted) -> int:
        """The reference's depth, bounded by the parent's.

        The UI builds its tree from depths and breaks on a jump of two, which several calls in one
        reply would cause. A node keeps its depth when the search comes back to it.
        """
        depth = self._node_depths.get(event.node_id)
        if depth is None:
            above = -1 if event.base_node_id is None else event.base_node_id
            parent = self._node_depths.get(above, self._last_depth)
            depth = min(event.depth // _UNITS_PER_STEP, parent + 1)
        depth = min(depth, self._last_depth + 1)
        self._node_depths[event.node_id] = depth
        return depth

    def _tool_started(self, event: ToolStarted) -> list[Line]:
        action: Line = {"action": event.function, "action_input": event.arguments}
        tool: Line = {
            "tool_name": event.function,
            "tool_description": self._functions.get(event.function, _UNKNOWN_TOOL),
            "tool_input": event.arguments,
        }
        return [
            self._tool("on_agent_action", event.call_id, event.expansion, action),
            self._tool("on_tool_start", event.call_id, event.expansion, tool),
        ]

    def _expansion_finished(self, event: ExpansionFinished) -> list[Line]:
        lines = [self._llm("on_chain_end", event.expansion, {})]
        if event.call_id is not None:
            lines.append(self._tool("on_agent_end", event.call_id, event.expansion, {}))
        return lines

    def _ended(self, event: RunEnded) -> Line:
        if event.kind != "answered" and not event.is_best_effort:
            return request_error(_why(event))
        answer = event.answer or ""
        if event.is_best_effort:  # to be shown, not an error; the protocol has no field for it
            answer = f"(Best effort, the search was ended early: {event.reason})\n\n{answer}"
        output = {"return_type": "give_answer", "final_answer": answer}
        return {
            "method_name": "on_request_end",
            "block_id": "end",
            "output": json.dumps(output),
            "chain": [legacy_message(message) for message in event.solution_path],
        }

    def _llm(self, method_name: str, expansion: int, payload: Line) -> Line:
        block: Line = {"method_name": method_name, "block_id": f"llm-{expansion}"}
        return block | payload | {"depth": self._depth_of(expansion)}

    def _tool(self, method_name: str, call_id: int, expansion: int, payload: Line) -> Line:
        block: Line = {"method_name": method_name, "block_id": f"tool-{call_id}"}
        return block | payload | {"depth": self._depth_of(expansion)}

    def _depth_of(self, expansion: int) -> int:
        # Another planner may forget to announce an expansion; its lines must still be readable.
        return self._depths.get(expansion, max(self._last_depth, 0))


def _why(event: RunEnded) -> str:
    if event.problem is not None:
        return f"{event.problem.title}: {event.problem.detail}"
    reasons = {
        "gave_up": "the model gave up: no way to an answer was found",
        "exhausted": "the search ended without an answer",
        "cancelled": "the run was cancelled",
    }
    text = reasons.get(event.kind, event.kind)
    return f"{text} ({event.reason})" if event.reason else text


def _function(function: FunctionSchema) -> JsonValue:
    return {
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters,
    }


def _history_message(entry: HistoryMessage) -> JsonValue:
    message = legacy_message(entry.message)
    return message | {"valid": False} if entry.hidden else message


def legacy_message(message: Message) -> Line:
    """A message in OpenAI's form of 2023 (`function_call`, role `function`), which the UI reads."""
    if message.role == "tool":
        return {"role": "function", "name": message.name, "content": message.content}
    form: Line = {"role": message.role, "content": message.content}
    if message.tool_calls:
        call = message.tool_calls[0]
        form["function_call"] = {"name": call.name, "arguments": call.arguments}
    return form
