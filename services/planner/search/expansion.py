"""The expansion of one node: one model call, and the actions that its reply asks for.

Source: Qin et al. 2023 (ToolLLM), section 3.2; node building as in the reference (interop 5.3),
with several calls of one reply chained on one branch as in StableToolBench.
Deviations: calls after Finish are not run; a reply without text or call becomes an empty thought.
"""

from time import monotonic
from typing import NamedTuple

from services.contracts.llm import Completion, Message, MessageToolCall, Usage
from services.contracts.planner import (
    ExpansionFinished,
    ExpansionStarted,
    ModelDelta,
    ModelReplied,
    ToolFinished,
    ToolStarted,
)
from services.contracts.toolbench.codes import code_of
from services.contracts.toolenv import CallStatus
from services.planner.actions import Outcome
from services.planner.budget import BudgetSpent
from services.planner.policy import ContextOverflow
from services.planner.prompts.base import Candidate
from services.planner.search.base import Search
from services.planner.tree import History, Node, NodeType, extend

_HALLUCINATED = "invalid_hallucination_function_name"  # what ToolLLaMA was trained on
_MAX_CALLS_PER_REPLY = 64  # model output is hostile: a reply may not start an endless chain


class _Step(NamedTuple):
    """One expansion's address, as its events carry it."""

    node_id: int
    expansion: int
    depth: int


class Expansion:
    """One model call below a node, and the actions it asked for, chained on one branch."""

    def __init__(self, search: Search, node: Node, *, vary: bool, rename_all: bool = True) -> None:
        """Prepare one model call below a node.

        Args:
            search: The run.
            node: Where to go on.
            vary: List the node's earlier children to the model and ask for another action.
            rename_all: Hide every invented function name of the reply from later steps, not only
                one in its first call.
        """
        self._search = search
        self._node = node
        self._step = _Step(node.node_id, 0, node.depth)
        self._vary = vary
        self._rename_all = rename_all
        self._last_call: int | None = None

    async def run(self) -> Node:
        """Ask the model and carry out what it asks for.

        Returns:
            Where the branch ends: the last node of the reply.

        Raises:
            ServiceError: The model or the tool environment cannot work.
            BudgetSpent: A budget ended the run.
        """
        search = self._search
        search.budget.check()
        await self._start()
        asked = monotonic()
        try:
            completion = await search.policy.ask(self._node.history.shown(), on_text=self._tell)
        except ContextOverflow as exc:
            search.budget.count_reply(Usage())
            message = Message(role="assistant", content=str(exc))
            await self._replied(Completion(message=message), monotonic() - asked)
            return self._overflowed(str(exc))
        await self._replied(completion, monotonic() - asked)
        if search.compat.discard_reply_at_call_limit and search.budget.calls_are_spent:
            raise BudgetSpent(search.budget.call_limit())
        return await self._grow(completion.message)

    async def close(self) -> None:
        """Tell that the expansion's whole subtree was searched."""
        await self._search.emit(ExpansionFinished(**self._step._asdict(), call_id=self._last_call))

    async def _start(self) -> None:
        node = self._node
        self._step = self._step._replace(expansion=self._search.next_expansion())
        candidates = _candidates(node) if self._vary else []
        if candidates:
            text = self._search.prompts.diversity(candidates, observation=node.observation)
            node.history = extend(node.history, Message(role="user", content=text), hidden=True)
        base = next((a for a in node.ancestors() if a.announced is not None), None)
        known = base.announced if base is not None else None
        node.announced = node.history
        await self._search.emit(
            ExpansionStarted(
                **self._step._asdict(),
                base_node_id=base.node_id if base is not None else None,
                messages=node.history.entries(since=known),
            )
        )

    async def _tell(self, text: str) -> None:
        await self._search.emit(ModelDelta(**self._step._asdict(), text=text))

    async def _replied(self, completion: Completion, latency_s: float) -> None:
        await self._search.emit(
            ModelReplied(
                **self._step._asdict(),
                message=completion.message,
                usage=completion.usage,
                latency_s=latency_s,
            )
        )

    def _overflowed(self, detail: str) -> Node:
        leaf = self._search.nodes.child(self._node, NodeType.THOUGHT, detail)
        leaf.status = CallStatus.MODEL_ERROR
        leaf.is_pruned = True
        return leaf

    async def _grow(self, reply: Message) -> Node:
        """Build the branch of one reply below the node."""
        nodes = self._search.nodes
        calls = reply.tool_calls[:_MAX_CALLS_PER_REPLY]
        message = reply.model_copy(update={"tool_calls": calls})
        leaf = self._node
        if reply.content is not None or not calls:
            # A reply without anything becomes an empty thought: the branch must get longer.
            leaf = nodes.child(leaf, NodeType.THOUGHT, reply.content or "")
            message = message.model_copy(update={"content": leaf.description})
        past, answers = leaf.history, list[Message]()
        for index, call in enumerate(calls):
            action = nodes.child(leaf, NodeType.ACTION, call.name)
            leaf = nodes.child(action, NodeType.ACTION_INPUT, call.arguments)
            outcome = await self._call(call)
            self._settle(leaf, outcome)
            if outcome.status is CallStatus.UNKNOWN_FUNCTION and (index == 0 or self._rename_all):
                message = _renamed(message, index)
            answers.append(_tool_message(message.tool_calls[index], outcome))
            leaf.history = _extend_all(past, message, answers)
            if leaf.is_terminal or leaf.is_pruned:
                break  # calls after Finish have nothing left to serve
        if not calls:
            leaf.history = extend(past, message)
        return leaf

    async def _call(self, call: MessageToolCall) -> Outcome:
        search = self._search
        self._last_call = call_id = search.next_call()
        await search.emit(
            ToolStarted(
                **self._step._asdict(),
                call_id=call_id,
                function=call.name,
                arguments=call.arguments,
                api=search.actions.api_of(call.name),
            )
        )
        outcome = await search.actions.run(call.name, call.arguments)
        await search.emit(self._tool_finished(call_id, outcome))
        return outcome

    def _settle(self, leaf: Node, outcome: Outcome) -> None:
        leaf.observation = outcome.observation
        leaf.status = outcome.status
        leaf.is_terminal = outcome.status is CallStatus.FINISHED
        leaf.is_pruned = outcome.status is CallStatus.GAVE_UP
        if leaf.is_terminal:
            self._search.found.answer = outcome.answer

    def _tool_finished(self, call_id: int, outcome: Outcome) -> ToolFinished:
        return ToolFinished(
            **self._step._asdict(),
            call_id=call_id,
            observation=outcome.observation,
            status=outcome.status,
            code=code_of(outcome.status),
            source=outcome.source,
            latency_s=outcome.latency_s,
            upstream_status=outcome.upstream_status,
            age_s=outcome.age_s,
            key=outcome.key,
        )


def _renamed(message: Message, index: int) -> Message:
    """Hide an invented name from later steps, so that the model does not imitate it."""
    calls = list(message.tool_calls)
    calls[index] = calls[index].model_copy(update={"name": _HALLUCINATED})
    return message.model_copy(update={"tool_calls": tuple(calls)})


def _extend_all(past: History, reply: Message, answers: list[Message]) -> History:
    history = extend(past, reply)
    for answer in answers:
        history = extend(history, answer)
    return history


def _tool_message(call: MessageToolCall, outcome: Outcome) -> Message:
    return Message(role="tool", name=call.name, content=outcome.observation, tool_call_id=call.id)


def _candidates(node: Node) -> list[Candidate]:
    """The first action below each child, for the children that lead to one."""
    found = []
    for child in node.children:
        below: Node = child
        while below.node_type is not NodeType.ACTION_INPUT and below.children:
            below = below.children[0]
        if below.node_type is NodeType.ACTION_INPUT and below.parent is not None:
            found.append(Candidate(below.parent.description, below.description, below.observation))
    return found
