"""Where a forked run goes on: at the tip of its trunk, whose edited action is carried out once."""

from services.contracts.llm import Message
from services.planner.search.base import Search
from services.planner.search.expansion import Expansion
from services.planner.tree import History, Node, extend


async def graft(search: Search) -> None:
    """Plant the first tree of a forked run and carry out its edited action; see `Trunk`.

    The action is told like a reply that the model was not asked for.

    Raises:
        ServiceError: The tool environment cannot work.
        BudgetSpent: The run's deadline came first.
    """
    trunk = search.trunk
    if trunk is None or trunk.action is None:
        return
    tip = search.plant()
    reply = _reply(tip.history)
    call = reply.tool_calls[-1]
    expansion = Expansion(search, _asked_at(tip, reply), vary=False)
    await expansion.begin(reply)
    outcome = await expansion.act(call, node=tip)
    tip.observation, tip.status = outcome.observation, outcome.status
    answer = Message(role="tool", name=call.name, content=outcome.observation, tool_call_id=call.id)
    tip.history = extend(tip.history, answer)
    await expansion.close()
    trunk.settle(tip)
    search.planted = tip


def _reply(history: History) -> Message:
    """The latest reply: what follows it are the answers to its earlier calls."""
    return next(
        entry.message for entry in reversed(history.entries()) if entry.message.role == "assistant"
    )


def _asked_at(tip: Node, reply: Message) -> Node:
    """The node at which the reply was given that the tip is part of."""
    levels = 2 * len(reply.tool_calls) + (reply.content is not None)
    path = list(tip.ancestors())
    return path[min(levels, len(path) - 1)]
