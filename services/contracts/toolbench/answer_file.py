"""ToolBench's answer files: the shapes that ToolEval and the training scripts read (interop 5.6).

Key order follows the reference's current code. Trees are walked without recursion, so that their
depth is bounded by the search's limits and not by the interpreter's stack.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import JsonValue

from services.contracts.llm import FunctionSchema, Message, Usage
from services.contracts.toolbench.functions import openai_function

NodeType = Literal["Thought", "Action", "Action Input"]
FinishType = Literal["give_answer", "give_up"]

_ELO: Final = 1000.0  # the reference never changes it
_MAX_ANSWER_BYTES: Final = 256 << 20


@dataclass(slots=True)
class AnswerNode:
    """One node of a tree or chain, in the reference's terms."""

    node_type: NodeType
    description: str
    depth: int
    expand_num: int
    pruned: bool
    finished: bool
    observation: str
    """Left out of the file when empty."""
    observation_code: int | None
    """Left out of the file when `None`."""
    child_count: int
    children: list["AnswerNode"] = field(default_factory=list)
    """Empty in a path, where `child_count` still tells how many there were."""

    def to_json(self) -> dict[str, JsonValue]:
        """The node without its children, as it stands in a path."""
        node: dict[str, JsonValue] = {
            "is_terminal": False,  # the reference writes false for every node
            "pruned": self.pruned,
            "finished": self.finished,
            "depth": self.depth,
            "node_type": self.node_type,
            "description": self.description,
            "Elo": _ELO,
        }
        if self.observation:
            node["observation"] = self.observation
        if self.observation_code is not None:
            node["observation_code"] = self.observation_code
        node["child_count"] = self.child_count
        node["expand_num"] = self.expand_num
        if self.node_type == "Action Input":
            node["io_state"] = {}
        return node


def tree_to_json(root: AnswerNode) -> dict[str, JsonValue]:
    """A node with its children, which are walked in order."""
    top: list[JsonValue] = []
    pending: list[tuple[AnswerNode, list[JsonValue]]] = [(root, top)]
    while pending:
        node, siblings = pending.pop()
        children: list[JsonValue] = []
        rendered = node.to_json()
        rendered["children"] = children
        siblings.append(rendered)
        # Reversed, because the stack hands them back in reverse.
        pending.extend((child, children) for child in reversed(node.children))
    first = top[0]
    assert isinstance(first, dict)  # the root was rendered first
    return first


def path_to_json(nodes: Sequence[AnswerNode]) -> list[JsonValue]:
    """A path of nodes, root excluded by the caller."""
    return [node.to_json() for node in nodes]


@dataclass(frozen=True, slots=True)
class TrainMessage:
    """A message of a training dialogue."""

    message: Message
    hidden: bool = False
    """Kept for training, but never shown to later model calls: `"valid": false`."""

    def to_json(self) -> dict[str, JsonValue]:
        """The message in OpenAI's form (`tool_calls`), as StableToolBench writes it."""
        rendered = message_to_json(self.message)
        if self.hidden:
            rendered["valid"] = False
        return rendered


def message_to_json(message: Message) -> dict[str, JsonValue]:
    """A chat message in OpenAI's form; keys without a value are left out, `content` is not."""
    rendered: dict[str, JsonValue] = {"role": message.role}
    if message.name is not None:
        rendered["name"] = message.name
    rendered["content"] = message.content
    if message.tool_calls:
        rendered["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        rendered["tool_call_id"] = message.tool_call_id
    return rendered


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What both kinds of answer file say about a run."""

    instruction: str
    functions: Sequence[FunctionSchema]
    query_count: int
    usage: Usage
    final_answer: str
    """Raw argument text of the Finish call, `""` when there was none."""
    train_messages: Sequence[Sequence[TrainMessage]]

    def train_json(self) -> list[JsonValue]:
        """One dialogue per predicted assistant message, the whole one last."""
        return [[message.to_json() for message in dialogue] for dialogue in self.train_messages]

    def functions_json(self) -> list[JsonValue]:
        """The functions in the order shown, Finish last."""
        return [openai_function(schema) for schema in self.functions]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeArguments:
    """Limits of a run that grew one tree."""

    max_depth: int
    beam_width: int
    max_llm_calls: int
    with_filter: bool = False
    """The model ranked siblings before the search entered them."""

    def to_json(self) -> dict[str, JsonValue]:
        """`forward_args`."""
        return {
            "single_chain_max_step": self.max_depth,
            "tree_beam_size": self.beam_width,
            "max_query_count": self.max_llm_calls,
            "answer": 1,
            "with_filter": self.with_filter,
        }


def tree_answer(
    *,
    win: bool,
    root: AnswerNode,
    arguments: TreeArguments,
    candidates: Sequence[Sequence[AnswerNode]],
    generation: Generation,
    finish_type: FinishType | None,
) -> dict[str, JsonValue]:
    """Answer file of a run that grew one tree: DFS, or another order of expansion.

    Args:
        win: A final answer was given.
        root: The tree.
        arguments: The run's limits.
        candidates: Path of every un-pruned answer, root excluded.
        generation: What both kinds of file share.
        finish_type: How the chosen leaf ended; `None` when nothing was found, which the reference
            writes as `give_answer` without valid data.
    """
    size, levels = _extent(root)
    valid = finish_type is not None
    described: dict[str, JsonValue] = {
        "valid_data": valid,
        "query_count": generation.query_count,
        "total_tokens": generation.usage.total_tokens,
        "final_answer": generation.final_answer,
        "finish_type": finish_type or "give_answer",
        "function": generation.functions_json(),
        "chain": [],
    }
    if valid:
        described["train_messages"] = generation.train_json()
    described["query"] = generation.instruction
    return {
        "win": win,
        "tree": {"size": size, "max_length": levels, "tree": tree_to_json(root)},
        "forward_args": arguments.to_json(),
        "compare_candidates": [path_to_json(path) for path in candidates],
        "answer_generation": described,
    }


def chain_answer(
    *,
    win: bool,
    tries: Sequence[Sequence[AnswerNode]],
    max_depth: int,
    n_chains: int,
    candidates: Sequence[Sequence[AnswerNode]],
    generation: Generation,
) -> dict[str, JsonValue]:
    """Answer file of a run in chains: ReAct, or another method that starts from scratch.

    Args:
        win: A final answer was given.
        tries: Path of every chain, root excluded, in order.
        max_depth: Longest chain, edges.
        n_chains: How many chains were allowed.
        candidates: Path of the answer, if there is one.
        generation: What both kinds of file share.
    """
    described: dict[str, JsonValue] = {
        "valid_data": win,
        "final_answer": generation.final_answer if win else "",
        "function": generation.functions_json(),
        "query_count": generation.query_count,
        "total_tokens": generation.usage.total_tokens,
        "train_messages": generation.train_json() if win else [],
        "chain": [],
        "query": generation.instruction,
    }
    return {
        "win": win,
        "try_count": len(tries),
        # The state before each try, hence false even for the winning one, as in the reference.
        "trys": [{"chain": path_to_json(path), "win": False} for path in tries],
        "compare_candidates": [path_to_json(path) for path in candidates],
        "forward_args": {"single_chain_max_step": max_depth, "pass_at": n_chains, "answer": 1},
        "answer_generation": described,
    }


def _extent(root: AnswerNode) -> tuple[int, int]:
    """Number of nodes, and number of levels (a root alone has one)."""
    size, levels = 0, 0
    level = [root]
    while level:
        size += len(level)
        levels += 1
        level = [child for node in level for child in node.children]
    return size, levels


def is_answer_file(path: Path, *, instruction: str) -> bool:
    """Whether a complete answer to this very instruction is stored there."""
    try:
        if not 0 < path.stat().st_size <= _MAX_ANSWER_BYTES:
            return False
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    match answer:
        case {
            "win": bool(),
            "answer_generation": {"query": str(query), "query_count": int(), "function": list()},
        }:
            return query == instruction and ("tree" in answer or "trys" in answer)
    return False
