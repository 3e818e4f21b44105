"""ReAct: independent chains of thought, action and observation (ToolBench's `CoT@n`).

Source: Yao et al. 2023 (ReAct), section 2; control flow as in the reference (interop 5.3).
Deviation: the budget of model calls holds here too, where the reference limits only the depth.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.contracts.planner import PlanEvent
from services.contracts.toolenv import CallStatus
from services.planner.search.base import Search
from services.planner.search.expansion import Expansion
from services.planner.tree import Node


class ReAct:
    """See `SearchMethod`: up to `n_chains` chains from scratch, until one answers."""

    def __init__(self, *, n_chains: int) -> None:
        self.n_chains = n_chains

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"CoT@{self.n_chains}"

    async def run(self, search: Search) -> AsyncGenerator[PlanEvent, None]:
        """See `SearchMethod.run`."""
        found = search.found
        for _ in range(self.n_chains):
            async with aclosing(self._chain(search)) as events:
                async for event in events:
                    yield event
            if found.answers or found.stopped is not None:
                return

    async def _chain(self, search: Search) -> AsyncGenerator[PlanEvent, None]:
        node = search.plant()
        found = search.found
        found.tries.append(node)
        expansions: list[Expansion] = []
        while not _is_over(node, search):
            found.stopped = search.budget.refusal()
            if found.stopped is not None:
                return
            expansion = Expansion(search, node, vary=False)
            expansions.append(expansion)
            async with aclosing(expansion.events()) as events:
                async for event in events:
                    yield event
            if expansion.is_discarded:
                found.stopped = search.budget.call_limit()
                return
            node = found.tries[-1] = expansion.leaf
        for expansion in reversed(expansions):
            yield expansion.finished()
        if node.is_terminal:
            found.answers.append(node)
        elif node.status is CallStatus.GAVE_UP:
            found.give_ups.append(node)


def _is_over(node: Node, search: Search) -> bool:
    if node.depth >= search.budget.limits.max_depth and not node.is_terminal:
        node.is_pruned = True
    return node.is_terminal or node.is_pruned
