"""The expansion of one node: one model call, and the actions that its reply asks for.

Source: Qin et al. 2023 (ToolLLM), section 3.2; node building as in the reference (interop 5.3),
with several calls of one reply chained on one branch as in StableToolBench.
Deviations: calls after Finish are not run; a reply without text or call becomes an empty thought.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import monotonic
from typing import NamedTuple

from services.contracts.llm import Completion, Message, MessageToolCall
from services.contracts.planner import (
    ExpansionFinished,
    ExpansionStarted,
    ModelDelta,
    ModelReplied,
    PlanEvent,
    ToolFinished,
    ToolStarted,
)
from services.contracts.toolbench.codes import code_of
from services.contracts.toolenv import CallStatus
from services.planner.actions import Outcome
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
        self._step = _Step(node.node_id, search.next_expansion(), node.depth)
        self._vary = vary
        self._rename_all = rename_all
        self._last_call: int | None = None
        self.leaf = node
        """Where the branch ends; the node itself until the reply was used."""
        self.is_discarded = False
        """The reply reached the call limit and was thrown away."""

    async def events(self) -> AsyncGenerator[PlanEvent, None]:
        """Run the expansion.

        Raises:
            ServiceError: The model or the tool environment cannot work.
            BudgetSpent: The run's deadline came first.
        """
        yield self._started()
        asked = monotonic()
        completion: Completion | None = None
        try:
            async with aclosing(self._search.policy.ask(self._node.history.shown())) as deltas:
                async for delta in deltas:
                    if delta.text:
                        yield ModelDelta(**self._step._asdict(), text=delta.text)
                    completion = delta.completion or completion
        except ContextOverflow as exc:
            completion = Completion(message=Message(role="assistant", content=str(exc)))
            self._prune_overflow(str(exc))
        assert completion is not None  # `Policy.ask` raises rather than end without it
        budget = self._search.budget
        budget.count_reply(completion.usage)
        yield ModelReplied(
            **self._step._asdict(),
            message=completion.message,
            usage=completion.usage,
            latency_s=monotonic() - asked,
        )
        if self.leaf.is_pruned:
            return
        if self._search.compat.discard_reply_at_call_limit and budget.calls_are_spent:
            self.is_discarded = True
            return
        async with aclosing(self._grow(completion.message)) as events:
            async for event in events:
                yield event

    def finished(self) -> ExpansionFinished:
        """The event that closes the expansion, once its whole subtree was searched."""
        return ExpansionFinished(**self._step._asdict(), call_id=self._last_call)

    def _started(self) -> ExpansionStarted:
        node = self._node
        candidates = _candidates(node) if self._vary else []
        if candidates:
            text = self._search.prompts.diversity(candidates, observation=node.observation)
            node.history = extend(node.history, Message(role="user", content=text), hidden=True)
        base = next((a for a in node.ancestors() if a.announced is not None), None)
        known = base.announced if base is not None else None
        node.announced = node.history
        return ExpansionStarted(
            **self._step._asdict(),
            base_node_id=base.node_id if base is not None else None,
            messages=node.history.entries(since=known),
        )

    def _prune_overflow(self, detail: str) -> None:
        leaf = self._search.nodes.child(self._node, NodeType.THOUGHT, detail)
        leaf.status = CallStatus.MODEL_ERROR
        leaf.is_pruned = True
        self.leaf = leaf

    async def _grow(self, reply: Message) -> AsyncGenerator[PlanEvent, None]:
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
            started = self._tool_started(call)
            yield started
            outcome = await self._search.actions.run(call.name, call.arguments)
            yield self._tool_finished(started.call_id, outcome)
            self._settle(leaf, outcome)
            if outcome.status is CallStatus.UNKNOWN_FUNCTION and (index == 0 or self._rename_all):
                message = _renamed(message, index)
            answers.append(_tool_message(message.tool_calls[index], outcome))
            leaf.history = _extend_all(past, message, answers)
            if leaf.is_terminal or leaf.is_pruned:
                break  # calls after Finish have nothing left to serve
        if not calls:
            leaf.history = extend(past, message)
        self.leaf = leaf

    def _settle(self, leaf: Node, outcome: Outcome) -> None:
        leaf.observation = outcome.observation
        leaf.status = outcome.status
        leaf.is_terminal = outcome.status is CallStatus.FINISHED
        leaf.is_pruned = outcome.status is CallStatus.GAVE_UP
        if leaf.is_terminal:
            self._search.found.answer = outcome.answer

    def _tool_started(self, call: MessageToolCall) -> ToolStarted:
        self._last_call = call_id = self._search.next_call()
        return ToolStarted(
            **self._step._asdict(),
            call_id=call_id,
            function=call.name,
            arguments=call.arguments,
            api=self._search.actions.api_of(call.name),
        )

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
