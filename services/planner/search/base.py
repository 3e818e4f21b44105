"""What every search method is built from: one run's state, and the tools to grow its trees."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from time import monotonic
from typing import Literal, Protocol, TypeVar

from services.contracts.compat import Compat
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.llm import (
    Completion,
    FunctionSchema,
    Message,
    MessageToolCall,
    ModelInfo,
    Usage,
)
from services.contracts.planner import Deliberated, Mode, PlanEvent, ToolProposal
from services.planner.actions import ActionRunner
from services.planner.budget import Budget, BudgetSpent, Spent
from services.planner.policy import Policy
from services.planner.prompts.base import PromptProfile
from services.planner.reading import Reader, Reading
from services.planner.speculation import Speculation
from services.planner.tree import History, Node, NodeFactory, extend
from services.planner.trunk import Trunk
from services.planner.turn import is_about_length
from services.planner.undo import Undo

T = TypeVar("T")
Shape = Literal["tree", "ranked_tree", "chains"]
"""`tree`: one tree, whatever the order of its expansions. `ranked_tree`: one tree whose siblings
the model put in order before they were entered. `chains`: trajectories from scratch, see
`Found.tries`."""
Emit = Callable[[PlanEvent], Awaitable[None]]
"""Tells the run's caller of an event; waits while the caller does not read."""


@dataclass(slots=True)
class Found:
    """What a search has come upon, in order of discovery."""

    roots: list[Node] = field(default_factory=list)
    tries: list[Node] = field(default_factory=list)
    """Last node of every chain, where a method searches in chains."""
    answers: list[Node] = field(default_factory=list)
    give_ups: list[Node] = field(default_factory=list)
    answer: str | None = None
    """Plain text of the latest answer."""
    best_answer: str | None = None
    """Plain text of the best candidate that a method holds, or of the last call's answer; counts
    only when a budget ends the search without an answer."""
    stopped: Spent | None = None
    """The budget that ended the search early."""
    proposal: ToolProposal | None = None
    """A tool that the search made and that can be adopted."""


@dataclass(slots=True, kw_only=True)
class Ahead:
    """How a search makes calls ahead of time, in mode `speculative`."""

    speculation: Speculation
    fork: Callable[[Budget], "Search"]
    """A search of its own that tells nothing, and calls what `Speculation.ports_ahead` gives."""
    generation: int = 0
    """0 for the search itself, 1 for one that runs ahead of it, and so on."""

    def search(self, budget: Budget) -> "Search":
        """A search ahead of the one that has this budget."""
        search = self.fork(budget.fork())
        search.ahead = replace(self, generation=self.generation + 1)
        return search


class Search:
    """State and tools of one run; a method decides the order in which nodes are expanded."""

    def __init__(
        self,
        *,
        policy: Policy,
        actions: ActionRunner,
        budget: Budget,
        prompts: PromptProfile,
        compat: Compat,
        opening: History,
        emit: Emit,
        instruction: str = "",
        mode: Mode = "exact",
        model_info: ModelInfo | None = None,
        trunk: Trunk | None = None,
    ) -> None:
        """Bind the parts of a run.

        Args:
            policy: The model.
            actions: Carries out its calls.
            budget: What the run may spend.
            prompts: Words of a re-expansion.
            compat: Quirks to reproduce.
            opening: System message and instruction, with which every tree starts.
            emit: Told of everything that happens.
            instruction: What is to be solved, in the user's words.
            mode: How much may go on at once.
            model_info: What the model can do; unknown when `None`.
            trunk: With what the trees of a forked run start.
        """
        self.found = Found()
        self.budget = budget
        self.compat = compat
        self.policy = policy
        self.actions = actions
        self.reader = Reader(actions.space, compat)
        self.prompts = prompts
        self.nodes = NodeFactory()
        self.emit = emit
        self.opening = opening
        self.instruction = instruction
        self.mode: Mode = mode
        self.model_info = model_info or ModelInfo()
        self.trunk = trunk
        self.planted: Node | None = None
        """A tree that was planted before the method began, and is its first one."""
        self.ahead: Ahead | None = None
        """Set where the search may run ahead of itself."""
        self._calls = 0
        self._expansions = 0
        self._tips: set[Node] = set()  # of a forked run's trees; all of them have what led there
        self._undo = Undo(actions=actions, emit=emit, next_call=self.next_call)

    def plant(self, history: History | None = None) -> Node:
        """Start a tree, with the run's opening or another one; returns where to go on.

        That is the root, which has depth 0; in a forked run it is the tip of the trunk, whose depth
        and path continue those of the run it came from, and the search does not go above it.
        """
        if self.planted is not None:
            planted, self.planted = self.planted, None
            return planted
        opening = history or self.opening
        if self.trunk is None:
            root = tip = self.nodes.root(opening)
        else:
            root, tip = self.trunk.grow(self.nodes, opening)
            self._tips.add(tip)
            self.actions.adopt(tip)
        self.found.roots.append(root)
        return tip

    def read_ahead(self, calls: Sequence[MessageToolCall]) -> None:
        """Begin calls of one reply that change nothing, while those before them are carried out.

        Each is told and booked in its turn, with the observation that is there by then. The first
        one that does not read ends them: what comes after a change must see it, and what comes
        after Finish is not made.

        Args:
            calls: In the order of the reply; the first one is left to the search, which is about to
                make it.
        """
        if self.ahead is None or len(calls) < 2:
            return
        budget, speculation = self.budget.fork(), self.ahead.speculation
        for index, call in enumerate(calls):
            made = self.actions.read_for(call.name, call.arguments)
            if made is None:
                return
            if index:
                speculation.start(partial(speculation.read, made, budget))

    def read(self, completion: Completion) -> Reading:
        """What a reply says; its class is counted."""
        reading = self.reader.read(completion)
        self.budget.readings[reading.kind] += 1
        return reading

    def next_expansion(self) -> int:
        """Number of the expansion that begins now, from 1."""
        self._expansions += 1
        return self._expansions

    def next_call(self) -> int:
        """Number of the action that begins now, from 1."""
        self._calls += 1
        return self._calls

    async def abandon(self, leaf: Node, *, keep: Node | None, tell: bool = True) -> None:
        """Leave a branch for good: what it alone changed is undone, newest first.

        Only changes whose API registers an inverse call can be; the history at `keep` is told of
        those that stand. The paths of answers are never abandoned.

        Args:
            leaf: Where the branch ends.
            keep: Where the search goes on: an ancestor of the leaf, which is not left, or another
                tree's node. `None` leaves the whole path, and nobody is told.
            tell: Tell the history at `keep`; a search that goes on elsewhere uses `remind`.

        Raises:
            BudgetSpent: The run's deadline came first.
        """
        relying = self.actions.ledger.everywhere()
        left = set(takewhile(lambda node: node is not keep, leaf.ancestors())) if relying else set()
        if left := left & relying:
            await self._undo.abandon(left - self._answered() - self._tips)
        if keep is not None and tell:
            self.remind(keep)

    def remind(self, node: Node) -> None:
        """Tell a history of the changes that abandoned branches left behind, each once."""
        note = self._undo.note(node)
        if note is not None:
            node.history = extend(node.history, Message(role="user", content=note))

    async def abandon_all(self) -> None:
        """Leave every branch that leads to no answer, at the end of a search; see `abandon`."""
        await self._undo.abandon(self.actions.ledger.everywhere() - self._answered())

    def _answered(self) -> set[Node]:
        """The paths of all answers; each node is looked at once, and once per path it ends."""
        answered: set[Node] = set()
        for answer in self.found.answers:
            answered.update(takewhile(lambda node: node not in answered, answer.ancestors()))
        return answered

    async def deliberate(
        self,
        purpose: str,
        messages: tuple[Message, ...],
        *,
        node: Node | None = None,
        tools: tuple[FunctionSchema, ...] = (),
        tool_choice: Literal["auto", "none", "required"] = "none",
        max_tokens: int | None = None,
        temperature: float | None = None,
        is_readable: Callable[[str], bool] | None = None,
        check_calls: bool = True,
    ) -> Completion:
        """Ask the model about the search itself; booked on the budget and told as an event.

        Args:
            purpose: What for, in one word: `rank`, `plan`, `reflect`.
            messages: The question.
            node: The node it is about, when it is about one.
            tools: Functions to show.
            tool_choice: Whether the reply may call them.
            max_tokens: Longest reply; the run's own limit when `None`.
            temperature: The run's own when `None`.
            is_readable: Whether a text holds the verdict that is sought; told with the event.
            check_calls: The number of model calls may refuse this one.

        Returns:
            The reply; an empty one to a question that grew too long for the model in the course of
            the run. Of that the event tells why.

        Raises:
            BudgetSpent: A budget allows no further call.
            ServiceError: The model cannot work; `InvalidArgument` also when the run's first
                question is too long for it already.
        """
        await self.budget.begin_call(calls=check_calls)
        asked = monotonic()
        try:
            completion = await self.policy.complete(
                messages,
                tools=tools,
                tool_choice=tool_choice,
                max_tokens=max_tokens,
                temperature=temperature,
            )
        except InvalidArgument as exc:
            if not self.budget.llm_calls or not is_about_length(exc.detail):
                raise
            return await self._unasked(purpose, exc.detail, node=node)
        text = completion.message.content or ""
        await self.emit(
            Deliberated(
                purpose=purpose,
                node_id=node.node_id if node is not None else None,
                text=text,
                usage=completion.usage,
                latency_s=monotonic() - asked,
                is_readable=is_readable is None or is_readable(text),
            )
        )
        return completion

    async def _unasked(self, purpose: str, reason: str, *, node: Node | None) -> Completion:
        """The empty reply to a question that was not put, which is told and counted."""
        self.budget.count_reply(Usage())
        await self.emit(
            Deliberated(
                purpose=purpose,
                node_id=node.node_id if node is not None else None,
                text=reason,
                usage=Usage(),
                latency_s=0.0,
                is_readable=False,
            )
        )
        return Completion(message=Message(role="assistant", content=""))

    def require_free_answers(self, method: str) -> None:
        """Refuse a model that only proposes calls.

        Raises:
            FailedPrecondition: The method needs answers that this model cannot give.
        """
        if not self.model_info.follows_instructions:
            raise FailedPrecondition(
                f"method {method!r} asks the model to plan or judge in words, and "
                f"{self.model_info.model!r} only proposes calls; choose CoT@n or DFS_woFilter_wN, "
                "or another model (LLM_BASE_URL, LLM_MODEL)"
            )

    async def together(
        self, works: Sequence[Callable[[], Coroutine[object, object, T]]]
    ) -> list[T]:
        """Results of works that do not need each other, in their order.

        They run one after the other in mode `exact` and `speculative`, at once in mode `parallel`.
        There, when a budget refuses one, those under way come to their own ends, since what they do
        is paid for. After any other failure they are cancelled; see `ActionRunner.interrupted`.

        Raises:
            BudgetSpent: A budget refused one, the first in the order of the works.
            Exception: The first other failure of a work, as it is.
        """
        if self.mode != "parallel" or len(works) < 2:
            return [await work() for work in works]
        tasks: list[asyncio.Task[T | BudgetSpent]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_outcome(work)) for work in works]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        results: list[T] = []
        for task in tasks:
            outcome = task.result()
            if isinstance(outcome, BudgetSpent):
                raise outcome
            results.append(outcome)
        return results


async def _outcome(work: Callable[[], Coroutine[object, object, T]]) -> T | BudgetSpent:
    """What a work gives; a refusal is returned, so that it does not cancel the others."""
    try:
        return await work()
    except BudgetSpent as exc:
        return exc


class SearchMethod(Protocol):
    """Decides which node is expanded next. Stateless: one instance may serve many runs."""

    @property
    def name(self) -> str:
        """As in a request, in its full form: `DFS_woFilter_w2`."""
        ...

    @property
    def shape(self) -> Shape:
        """What an answer file shows of its search."""
        ...

    @property
    def width(self) -> int:
        """Children that a node of its tree may get, or chains it may start, >= 1."""
        ...

    async def run(self, search: Search) -> None:
        """Search until an answer is found or nothing is left; `search.found` has the result.

        Raises:
            ServiceError: The model or the tool environment cannot work.
            BudgetSpent: A budget ended the search.
        """
        ...
