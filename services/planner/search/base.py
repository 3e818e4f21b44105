"""What every search method is built from: one run's state, and the tools to grow its trees."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from services.contracts.compat import Compat
from services.contracts.planner import PlanEvent
from services.planner.actions import ActionRunner
from services.planner.budget import Budget
from services.planner.policy import Policy
from services.planner.prompts.base import PromptProfile
from services.planner.tree import History, Node, NodeFactory


@dataclass(slots=True)
class Found:
    """What a search has come upon, in order of discovery."""

    roots: list[Node] = field(default_factory=list)
    tries: list[Node] = field(default_factory=list)
    """Last node of every chain (ReAct)."""
    answers: list[Node] = field(default_factory=list)
    give_ups: list[Node] = field(default_factory=list)
    answer: str | None = None
    """Plain text of the latest answer."""
    stopped: str | None = None
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
    ) -> None:
        """Bind the parts of a run.

        Args:
            policy: The model.
            actions: Carries out its calls.
            budget: What the run may spend.
            prompts: Words of a re-expansion.
            compat: Quirks to reproduce.
            opening: System message and instruction, with which every tree starts.
        """
        self.found = Found()
        self.budget = budget
        self.compat = compat
        self.policy = policy
        self.actions = actions
        self.prompts = prompts
        self.nodes = NodeFactory()
        self._opening = opening
        self._calls = 0
        self._expansions = 0

    def plant(self) -> Node:
        """Start a tree."""
        root = self.nodes.root(self._opening)
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


class SearchMethod(Protocol):
    """Decides which node is expanded next. Stateless: one instance may serve many runs."""

    @property
    def name(self) -> str:
        """ToolBench's name, e.g. `DFS_woFilter_w2`."""
        ...

    def run(self, search: Search) -> AsyncGenerator[PlanEvent, None]:
        """Search until an answer is found or nothing is left; `search.found` has the result.

        Raises:
            ServiceError: The model or the tool environment cannot work.
            BudgetSpent: The run's deadline came first.
        """
        ...
