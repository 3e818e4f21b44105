"""The expansion of one node: one model call, and the actions that its reply asks for.

Source: Qin et al. 2023 (ToolLLM), section 3.2; node building as in the reference (interop 5.3),
with several calls of one reply chained on one branch as in StableToolBench.
Deviations: calls after Finish are not run; a reply without text or call becomes an empty thought;
replies are mended, checked and asked for again as `services.planner.reading` says.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import takewhile
from time import monotonic
from typing import NamedTuple

from services.contracts.errors import InvalidArgument
from services.contracts.llm import Completion, Message, MessageToolCall, Usage
from services.contracts.planner import (
    Deliberated,
    ExpansionFinished,
    ExpansionStarted,
    ModelDelta,
    ModelReplied,
    ReplyReading,
    ToolFinished,
    ToolStarted,
)
from services.contracts.toolenv import CallStatus
from services.planner.actions import Outcome
from services.planner.budget import BudgetSpent
from services.planner.effects import Site
from services.planner.loops import is_loop
from services.planner.policy import ContextOverflow
from services.planner.prompts.base import Candidate
from services.planner.reading import LONGER, MAX_REPAIRS, Reading
from services.planner.search.base import Search
from services.planner.tree import History, Node, NodeType, extend

_HALLUCINATED = "invalid_hallucination_function_name"  # what ToolLLaMA was trained on


class _Step(NamedTuple):
    """One expansion's address, as its events carry it."""

    node_id: int
    expansion: int
    depth: int


class _Made(NamedTuple):
    """A call that was carried out."""

    leaf: Node
    outcome: Outcome


class Expansion:
    """One model call below a node, and the actions it asked for, chained on one branch."""

    def __init__(
        self,
        search: Search,
        node: Node,
        *,
        vary: bool,
        rename_all: bool = True,
        sample: int | None = None,
        limits_calls: bool = True,
    ) -> None:
        """Prepare one model call below a node.

        Args:
            search: The run.
            node: Where to go on.
            vary: List the node's earlier children to the model and ask for another action.
            rename_all: Hide every invented function name of the reply from later steps, not only
                one in its first call.
            sample: See `Policy.ask`.
            limits_calls: `max_llm_calls` holds here.
        """
        self._search = search
        self._node = node
        self._step = _Step(node.node_id, 0, node.depth)
        self._place = self._step._asdict()
        self._vary = vary
        self._rename_all = rename_all
        self._sample = sample
        self._limits_calls = limits_calls
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
        # The reference looks at the number of calls only after a reply.
        is_limited_before = self._limits_calls and not search.compat.discard_reply_at_call_limit
        await search.budget.begin_call(calls=is_limited_before, step=True)
        await self._start()
        asked = monotonic()
        try:
            completion = await search.policy.ask(
                self._node.history.shown(), on_text=self._tell, sample=self._sample
            )
        except ContextOverflow as exc:
            search.budget.count_reply(Usage())
            message = Message(role="assistant", content=str(exc))
            await self._replied(message, Usage(), monotonic() - asked)
            return self._overflowed(str(exc))
        reading = await self._read(completion, monotonic() - asked)
        is_limited_after = self._limits_calls and search.compat.discard_reply_at_call_limit
        if is_limited_after and search.budget.calls_are_spent:
            raise BudgetSpent(search.budget.call_limit())
        return await self._grow(reading)

    async def _read(self, completion: Completion, latency_s: float) -> Reading:
        """Read the reply, ask for it again while it cannot be used, and tell the one that is used.

        The model is asked again at most `MAX_REPAIRS` times, and only while the budget lets it.
        What it is told then stands in no history.
        """
        search = self._search
        reading, repairs, longer = search.read(completion), 0, 1
        while not reading.is_usable and repairs < MAX_REPAIRS and search.budget.refusal() is None:
            await search.budget.begin_call()
            repairs += 1
            longer *= LONGER if reading.kind == "truncated" else 1
            await self._tell_unusable(completion, latency_s)
            asked = monotonic()
            again = await self._ask_again(reading, longer=longer)
            if again is None:
                completion, latency_s = completion.model_copy(update={"usage": Usage()}), 0.0
                break
            completion, latency_s = again, monotonic() - asked
            reading = search.read(completion)
        await self._replied(
            reading.message, completion.usage, latency_s, kind=reading.kind, repairs=repairs
        )
        return reading

    async def _ask_again(self, reading: Reading, *, longer: int) -> Completion | None:
        """Another reply in place of an unusable one; `None` when the model has no room for it."""
        history = self._node.history.shown()
        messages = (*history, reading.correction) if reading.correction is not None else history
        policy = self._search.policy
        try:
            return await policy.ask(messages, sample=self._sample, longer=longer)
        except (ContextOverflow, InvalidArgument):
            self._search.budget.count_reply(Usage())
            return None

    async def _tell_unusable(self, completion: Completion, latency_s: float) -> None:
        message = completion.message
        calls = [f"{call.name} {call.arguments}" for call in message.tool_calls]
        await self._search.emit(
            Deliberated(
                purpose="repair",
                node_id=self._node.node_id,
                text="\n".join(filter(None, (message.content, *calls))),
                usage=completion.usage,
                latency_s=latency_s,
                is_readable=False,
            )
        )

    async def begin(self, reply: Message) -> None:
        """Begin with a reply that the search put together itself; the model is not asked.

        It is told like any reply, without usage and latency.
        """
        await self._start()
        await self._replied(reply, Usage(), 0.0)

    async def follow(self, reply: Message) -> Node:
        """Carry out a reply that the search put together itself; see `begin` and `run`."""
        await self.begin(reply)
        return await self._grow(self._search.reader.read(Completion(message=reply)))

    def add(self, leaf: Node, thought: str | None, call: MessageToolCall, outcome: Outcome) -> Node:
        """Put one action with its outcome below a leaf of this expansion; returns the new leaf."""
        nodes, past = self._search.nodes, leaf.history
        if thought is not None:
            leaf = nodes.child(leaf, NodeType.THOUGHT, thought)
        action = nodes.child(leaf, NodeType.ACTION, call.name)
        leaf = nodes.child(action, NodeType.ACTION_INPUT, call.arguments)
        self._settle(leaf, outcome)
        message = Message(role="assistant", content=thought, tool_calls=(call,))
        leaf.history = _extend_all(past, message, [_tool_message(call, outcome)])
        return leaf

    async def close(self) -> None:
        """Tell that the expansion's whole subtree was searched."""
        await self._search.emit(ExpansionFinished(**self._place, call_id=self._last_call))

    async def _start(self) -> None:
        node = self._node
        self._step = self._step._replace(expansion=self._search.next_expansion())
        self._place = self._step._asdict()
        candidates = _candidates(node) if self._vary else []
        if candidates:
            text = self._search.prompts.diversity(candidates, observation=node.observation)
            node.history = extend(node.history, Message(role="user", content=text), hidden=True)
        base = next((a for a in node.ancestors() if a.announced is not None), None)
        known = base.announced if base is not None else None
        node.announced = node.history
        await self._search.emit(
            ExpansionStarted(
                **self._place,
                base_node_id=base.node_id if base is not None else None,
                messages=node.history.entries(since=known),
            )
        )

    async def _tell(self, text: str) -> None:
        await self._search.emit(ModelDelta(**self._place, text=text))

    async def _replied(
        self,
        message: Message,
        usage: Usage,
        latency_s: float,
        *,
        kind: ReplyReading = "well_formed",
        repairs: int = 0,
    ) -> None:
        await self._search.emit(
            ModelReplied(
                **self._place,
                message=message,
                usage=usage,
                latency_s=latency_s,
                reading=kind,
                repairs=repairs,
            )
        )

    def _overflowed(self, detail: str) -> Node:
        leaf = self._search.nodes.child(self._node, NodeType.THOUGHT, detail)
        leaf.status = CallStatus.MODEL_ERROR
        leaf.is_pruned = True
        return leaf

    async def _grow(self, reading: Reading) -> Node:
        """Build the branch of one reply below the node."""
        nodes = self._search.nodes
        reply, message = reading.message, reading.shown()
        calls = reply.tool_calls
        leaf = self._node
        if reply.content is not None or not calls:
            # A reply without anything becomes an empty thought: the branch must get longer.
            leaf = nodes.child(leaf, NodeType.THOUGHT, reply.content or "")
            message = message.model_copy(update={"content": leaf.description})
        past, answers = leaf.history, list[Message]()
        refusals = reading.refusals or ("",) * len(calls)
        self._search.read_ahead(
            [call for call, refusal in zip(calls, refusals, strict=True) if not refusal]
        )
        made = await self._read_at_once(leaf, calls, refusals)
        for index, call in enumerate(calls):
            if index < len(made):
                leaf, outcome = made[index]
            else:
                leaf = self._input_below(leaf, call)
                outcome = await self._carry_out(call, self._refused(refusals[index]), node=leaf)
            self._settle(leaf, outcome)
            if outcome.status is CallStatus.UNKNOWN_FUNCTION and (index == 0 or self._rename_all):
                message = _renamed(message, index)
            answers.append(_tool_message(message.tool_calls[index], outcome))
            leaf.history = _extend_all(past, message, answers)
            if (leaf.is_terminal or leaf.is_pruned) and index + 1 >= len(made):
                break  # calls after Finish have nothing left to serve
        if not calls:
            leaf.history = extend(past, message)
        return leaf

    def _input_below(self, leaf: Node, call: MessageToolCall) -> Node:
        """Put a call below a leaf; returns its action input."""
        action = self._search.nodes.child(leaf, NodeType.ACTION, call.name)
        return self._search.nodes.child(action, NodeType.ACTION_INPUT, call.arguments)

    async def _read_at_once(
        self, leaf: Node, calls: Sequence[MessageToolCall], refusals: Sequence[str]
    ) -> list[_Made]:
        """Make the first calls of a reply at once, in mode `parallel`, while they only read.

        Their nodes stand below each other in the order of the reply, as ever; the first call that
        does not read ends them, see `Search.read_ahead`.
        """
        search = self._search
        if search.mode != "parallel":
            return []
        reads = list(
            takewhile(
                lambda pair: (
                    not pair[1]
                    and search.actions.read_for(pair[0].name, pair[0].arguments) is not None
                ),
                zip(calls, refusals, strict=True),
            )
        )
        if len(reads) < 2:
            return []
        leaves = []
        for call, _ in reads:
            leaf = self._input_below(leaf, call)
            leaves.append(leaf)
        works = [
            partial(self._carry_out, call, None, node=node)
            for (call, _), node in zip(reads, leaves, strict=True)
        ]
        outcomes = await search.together(works)
        return [_Made(node, outcome) for node, outcome in zip(leaves, outcomes, strict=True)]

    def think(self, leaf: Node, thought: str) -> Node:
        """Put a reply in words below a leaf of this expansion; returns the new leaf."""
        node = self._search.nodes.child(leaf, NodeType.THOUGHT, thought)
        node.history = extend(leaf.history, Message(role="assistant", content=thought))
        return node

    async def act(
        self,
        call: MessageToolCall,
        *,
        known: Outcome | None = None,
        node: Node | None = None,
        by: Callable[[], Awaitable[Outcome]] | None = None,
    ) -> Outcome:
        """Carry out one action that the search put together, and tell of it.

        Args:
            call: The action; its arguments are checked first.
            known: What it led to, when it need not be carried out.
            node: Its action input, when the tree has it already.
            by: Carries it out, when it is no call of the run's functions.
        """
        if by is None:
            known = known or self._refused(self._search.reader.refusal(call))
        return await self._carry_out(call, known, node=node, by=by)

    def _refused(self, refusal: str) -> Outcome | None:
        return self._search.actions.refused(refusal) if refusal else None

    async def _carry_out(
        self,
        call: MessageToolCall,
        known: Outcome | None,
        *,
        node: Node | None,
        by: Callable[[], Awaitable[Outcome]] | None = None,
    ) -> Outcome:
        search = self._search
        self._last_call = call_id = search.next_call()
        await search.emit(
            ToolStarted(
                **self._place,
                call_id=call_id,
                function=call.name,
                arguments=call.arguments,
                api=search.actions.api_of(call.name),
                input_node_id=node.node_id if node is not None else None,
            )
        )
        site = Site(call_id, node or self._node, self._step.expansion, self._node)
        if by is None:
            by = partial(search.actions.run, call.name, call.arguments, site=site)
        try:
            outcome = known or await by()
        except BaseException:
            left = search.actions.interrupted(call_id)
            if left is not None:
                await search.emit(self._tool_finished(call_id, left))
            raise
        await search.emit(self._tool_finished(call_id, outcome))
        return outcome

    def _settle(self, leaf: Node, outcome: Outcome) -> None:
        leaf.observation = outcome.observation
        leaf.status = outcome.status
        leaf.is_terminal = outcome.status is CallStatus.FINISHED
        leaf.is_pruned = outcome.status is CallStatus.GAVE_UP
        if leaf.is_terminal:
            self._search.found.answer = outcome.answer
        elif outcome.status is CallStatus.OK:
            self._search.budget.note_finding()
        if not leaf.is_pruned and not self._search.compat.no_loop_detection:
            leaf.is_pruned = leaf.is_loop = is_loop(leaf)

    def _tool_finished(self, call_id: int, outcome: Outcome) -> ToolFinished:
        return outcome.told(**self._place, call_id=call_id)


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
