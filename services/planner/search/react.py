"""ReAct: independent chains of thought, action and observation (ToolBench's `CoT@n`).

Source: Yao et al. 2023 (ReAct), section 2; control flow as in the reference (interop 5.3).
Deviation: the budget of model calls holds here too, where the reference limits only the depth; see
`Compat.cot_ignores_call_limit`.
"""

from typing import ClassVar

from services.contracts.toolenv import CallStatus
from services.planner.search.base import Search, Shape
from services.planner.search.expansion import Expansion
from services.planner.tree import Node


class ReAct:
    """See `SearchMethod`: up to `n_chains` chains from scratch, until one answers."""

    shape: ClassVar[Shape] = "chains"

    def __init__(self, *, n_chains: int) -> None:
        self.width = n_chains

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"CoT@{self.width}"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        leaf: Node | None = None  # of the latest chain
        limits_calls = not search.compat.cot_ignores_call_limit
        for _ in range(self.width):
            root = search.plant()
            if leaf is not None:
                await search.abandon(leaf, keep=root)
            leaf = await run_chain(search, root, limits_calls=limits_calls)
            if leaf.is_terminal:
                search.found.answers.append(leaf)
                return
            if leaf.status is CallStatus.GAVE_UP:
                search.found.give_ups.append(leaf)


async def run_chain(search: Search, root: Node, *, limits_calls: bool = True) -> Node:
    """Grow one chain below a node until it ends, and return its leaf; see `Found.tries`.

    Args:
        search: The run.
        root: Where the chain begins.
        limits_calls: `max_llm_calls` holds for it.
    """
    tries = search.found.tries
    tries.append(root)
    node = root
    expansions: list[Expansion] = []
    while not _is_over(node, search):
        expansion = Expansion(search, node, vary=False, limits_calls=limits_calls)
        expansions.append(expansion)
        node = tries[-1] = await expansion.run()
    for expansion in reversed(expansions):
        await expansion.close()
    return node


def _is_over(node: Node, search: Search) -> bool:
    if node.depth >= search.budget.limits.max_depth and not node.is_terminal:
        node.is_pruned = True
    return node.is_terminal or node.is_pruned


METHODS = {"react": lambda n: ReAct(n_chains=n)}
