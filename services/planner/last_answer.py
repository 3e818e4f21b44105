"""The answer of a run that a budget ends: the best that can be said from what was found.

One last model call, for which `Budget` kept a slice, asks for Finish at the node that knows most.
Source: anytime algorithms (Dean and Boddy 1988); forcing the final answer at the step limit is what
ReAct agents in practice do, here with the search tree's best node in place of the latest one.
"""

from collections.abc import Sequence
from typing import Final

from services.contracts.errors import ServiceError
from services.contracts.llm import Completion, Message
from services.contracts.toolbench.functions import FINISH
from services.contracts.toolenv import CallStatus
from services.planner.budget import BudgetSpent
from services.planner.compaction import paired
from services.planner.finish import run_finish
from services.planner.search.base import Search
from services.planner.tree import Node, NodeType

ASK: Final = (
    "No more functions can be called. Call Finish with give_answer now, and answer the instruction "
    "as well as the results above allow; say plainly what they do not tell."
)


async def answer_at_limit(search: Search) -> None:
    """Put the best that can be said into `found.best_answer`, where a budget ended the search.

    Nothing is asked when a method holds a candidate already, when no tool answered, or when the
    model itself gave up. A model that gives up now, or fails, leaves the run without an answer.
    """
    found = search.found
    gave_up = found.stopped is None and bool(found.give_ups)
    if search.compat.no_answer_at_limits or found.answers or found.best_answer or gave_up:
        return
    node = best_node(found.roots)
    if node is not None:
        found.best_answer = await _asked(search, node)


async def _asked(search: Search, node: Node) -> str | None:
    shown = tuple(entry.message for entry in node.history.entries() if not entry.hidden)
    # A model that only proposes calls was never shown such a sentence; Finish alone tells it.
    follows = search.model_info.follows_instructions
    ask = (Message(role="user", content=ASK),) if follows else ()
    finish = tuple(tool for tool in search.policy.tools if tool.name == FINISH)
    try:
        search.budget.open_answer()
        completion = await search.deliberate(
            "answer", (*paired(shown), *ask), node=node, tools=finish, tool_choice="auto"
        )
    except (BudgetSpent, ServiceError):
        return None  # the run has ended by its budget; that its extra fails as well says nothing
    return _answer_of(completion, repair=search.compat.repair_finish_arguments)


def _answer_of(completion: Completion, *, repair: bool) -> str | None:
    calls = completion.message.tool_calls
    call = next((call for call in calls if call.name == FINISH), None)
    finished = run_finish(call.arguments, repair=repair) if call is not None else None
    return finished.answer or None if finished is not None else None


def best_node(roots: Sequence[Node]) -> Node | None:
    """The node with most tool answers on its path, the latest of equals; `None` without any."""
    best, most = None, 0
    pending = [(root, 0) for root in roots]
    while pending:
        node, n_above = pending.pop()
        is_answer = node.node_type is NodeType.ACTION_INPUT and node.status is CallStatus.OK
        n = n_above + is_answer
        if is_answer and (best is None or (n, node.node_id) > (most, best.node_id)):
            best, most = node, n
        pending.extend((child, n) for child in node.children)
    return best
