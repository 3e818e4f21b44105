"""Turns a finished search into ToolBench's answer file (interop 5.6).

Deviation: of several give-ups the first is chosen, where the reference draws one at random.
"""

from collections.abc import Mapping

from pydantic import JsonValue

from services.contracts.planner import RunEnded
from services.contracts.toolbench.answer_file import (
    AnswerNode,
    FinishType,
    Generation,
    TrainMessage,
    TreeArguments,
    chain_answer,
    tree_answer,
)
from services.contracts.toolbench.codes import code_of
from services.planner.action_space import ActionSpace
from services.planner.budget import Budget
from services.planner.search.base import Found, SearchMethod
from services.planner.tree import History, Node, NodeType

MAX_WIRE_LEVELS = 60
"""Deepest tree that crosses HTTP: JSON readers stop at 128 nested brackets, a level has two."""


def chosen_leaf(found: Found) -> Node | None:
    """The leaf that stands for the run: its first answer, else its first give-up."""
    return next(iter((*found.answers, *found.give_ups)), None)


def build_record(
    *,
    method: SearchMethod,
    instruction: str,
    found: Found,
    space: ActionSpace,
    budget: Budget,
    provenance: Mapping[str, JsonValue] | None = None,
) -> dict[str, JsonValue]:
    """The answer file of a run that did not fail.

    Args:
        method: What searched; its shape decides which of the two kinds of file this is.
        instruction: What was to be solved.
        found: What the search came upon.
        space: The functions that the model was shown.
        budget: What the run spent, and its limits.
        provenance: How the file came about (method, seed, prompts, model, ...): a last key
            `toolwright`, which readers of the reference's format pass over; absent when `None`.
    """
    record = _answer(method, instruction, found, space, budget)
    if provenance is not None:
        record["toolwright"] = dict(provenance)
    return record


def _answer(
    method: SearchMethod, instruction: str, found: Found, space: ActionSpace, budget: Budget
) -> dict[str, JsonValue]:
    win = bool(found.answers)
    leaf = chosen_leaf(found)
    if method.shape == "chains" and not win:
        leaf = None  # the reference keeps nothing of a chain that gave up
    generation = Generation(
        instruction=instruction,
        functions=space.schemas,
        query_count=budget.llm_calls,
        usage=budget.usage,
        final_answer=leaf.description if leaf is not None else "",
        train_messages=train_messages(leaf) if leaf is not None else (),
    )
    candidates = [_path(node) for node in found.answers]
    if method.shape == "chains":
        return chain_answer(
            win=win,
            tries=[_path(node) for node in found.tries],
            max_depth=budget.limits.max_depth,
            n_chains=method.width,
            candidates=candidates,
            generation=generation,
        )
    return tree_answer(
        win=win,
        root=_tree(found.roots[0]),
        arguments=TreeArguments(
            max_depth=budget.limits.max_depth,
            beam_width=method.width,
            max_llm_calls=budget.limits.max_llm_calls,
            with_filter=method.shape == "ranked_tree",
        ),
        candidates=candidates,
        generation=generation,
        finish_type=_finish_type(found),
    )


def fitted_to_wire(ended: RunEnded) -> RunEnded:
    """The event without its record when that is nested too deeply for JSON readers."""
    tree = ended.record.get("tree") if ended.record is not None else None
    levels = tree.get("max_length") if isinstance(tree, dict) else None
    if not isinstance(levels, int) or levels <= MAX_WIRE_LEVELS:
        return ended
    reason = (
        f"the tree has {levels} levels, a record in JSON can have {MAX_WIRE_LEVELS}; "
        "lower max_depth or solve in process"
    )
    return ended.model_copy(update={"record": None, "reason": reason})


def _finish_type(found: Found) -> FinishType | None:
    if found.answers:
        return "give_answer"
    return "give_up" if found.give_ups else None


def _node(node: Node) -> AnswerNode:
    return AnswerNode(
        node_type=node.node_type.value,
        description=node.description,
        depth=node.depth,
        expand_num=node.entered,
        pruned=node.is_pruned,
        finished=node.is_finished,
        observation=node.observation,
        observation_code=code_of(node.status) if node.status is not None else None,
        child_count=len(node.children),
    )


def _path(node: Node) -> list[AnswerNode]:
    return [_node(step) for step in node.path()]


def _tree(root: Node) -> AnswerNode:
    top = _node(root)
    pending = [(root, top)]
    while pending:
        node, record = pending.pop()
        record.children = [_node(child) for child in node.children]
        pending.extend(zip(node.children, record.children, strict=True))
    return top


def train_messages(leaf: Node) -> list[list[TrainMessage]]:
    """Dialogues that each end with a message to be predicted, the whole trajectory last.

    Every action input gives one, cut back to the last assistant message; a thought gives one when
    its history ends with an assistant message, that is, when the reply was a thought only.
    """
    found = []
    for node in leaf.path():
        if node.node_type is NodeType.ACTION_INPUT:
            dialogue = _cut_back(node.history, {"user", "tool"})
        elif node.node_type is NodeType.THOUGHT:
            dialogue = _cut_back(node.history, {"user"})
        else:
            continue
        if dialogue and dialogue[-1].message.role == "assistant":
            found.append(_with_last_hidden(dialogue))
    return found


def _cut_back(history: History, roles: set[str]) -> list[TrainMessage]:
    entries = list(history.entries())
    while entries and entries[-1].message.role in roles:
        entries.pop()
    return [TrainMessage(entry.message, entry.hidden) for entry in entries]


def _with_last_hidden(dialogue: list[TrainMessage]) -> list[TrainMessage]:
    hidden = [index for index, message in enumerate(dialogue) if message.hidden]
    return [
        message
        for index, message in enumerate(dialogue)
        if not message.hidden or index == hidden[-1]
    ]
