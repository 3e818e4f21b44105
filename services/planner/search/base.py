"""What every search method is built from: one run's state, and the tools to grow its trees."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, Protocol, TypeVar

from services.contracts.compat import Compat
from services.contracts.errors import FailedPrecondition
from services.contracts.llm import Completion, FunctionSchema, Message, ModelInfo
from services.contracts.planner import Deliberated, Mode, PlanEvent
from services.planner.actions import ActionRunner
from services.planner.budget import Budget, Spent
from services.planner.policy import Policy
from services.planner.prompts.base import PromptProfile
from services.planner.tree import History, Node, NodeFactory

T = TypeVar("T")
Shape = Literal["tree", "ranked_tree", "chains"]
"""`tree`: one tree, whatever the order of its expansions. `ranked_tree`: one tree whose siblings the
model put in order before they were entered. `chains`: trajectories from scratch, see `Found.tries`.
"""
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
    stopped: Spent | None = None
    """The budget that ended the search early."""


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
        """
        self.found = Found()
        self.budget = budget
        self.compat = compat
        self.policy = policy
        self.actions = actions
        self.prompts = prompts
        self.nodes = NodeFactory()
        self.emit = emit
        self.opening = opening
        self.instruction = instruction
        self.mode: Mode = mode
        self.model_info = model_info or ModelInfo()
        self._calls = 0
        self._expansions = 0

    def plant(self, history: History | None = None) -> Node:
        """Start a tree, with the run's opening or another one."""
        root = self.nodes.root(history or self.opening)
        self.found.roots.append(root)
        return root

    def next_expansion(self) -> int:
        """Number of the expansion that begins now, from 1."""
        self._expansions += 1
        return self._expansions

    def next_call(self) -> int:
        """Number of the action that begins now, from 1."""
        self._calls += 1
        return self._calls

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

        Raises:
            BudgetSpent: A budget allows no further call.
            ServiceError: The model cannot work.
        """
        self.budget.check()
        asked = monotonic()
        completion = await self.policy.complete(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            max_tokens=max_tokens,
            temperature=temperature,
        )
        await self.emit(
            Deliberated(
                purpose=purpose,
                node_id=node.node_id if node is not None else None,
                text=completion.message.content or "",
                usage=completion.usage,
                latency_s=monotonic() - asked,
            )
        )
        return completion

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
        The first failure, in the order of the works, is raised as it is; the others are cancelled.
        """
        if self.mode != "parallel" or len(works) < 2:
            return [await work() for work in works]
        tasks: list[asyncio.Task[T]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work()) for work in works]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return [task.result() for task in tasks]


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
