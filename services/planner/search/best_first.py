"""Best-first search in the manner of A* (`BestFirst_wN`), after ToolChain*.

Source: Zhuang et al. 2023 (ToolChain*, ICLR 2024), section 3: the state with the least
f(n) = g(n) + h(n) is expanded next, into N sampled actions.

- g(n), cumulative cost: the sum over the steps down to n of (1 - g1)^alpha (1 - g2)^(1 - alpha); g1
  is the likeness to plans in a long-term memory, g2 the share of the N samples that chose the
  step's action (self-consistency).
- h(n), future cost: (1 - h1)^beta (1 - h2)^(1 - beta); h1 is the position of the step in plans of
  the memory, h2 the imagination score: the model lists the steps that are left, and h2 is the
  number of steps taken over the number of steps of the whole imagined plan.

Deviations: there is no memory of solved tasks, so alpha = beta = 0 and only g2 and h2 remain:
g(n) = sum (1 - g2), h(n) = 1 - h2. A plan that cannot be read counts h2 = 1/2. An answer has
h = 0, and the search ends when it is the next to be expanded, as A* does; a budget that ends before
that leaves the answer with the least f. Actions are carried out when they are sampled, since what
follows depends on what they return. Equal samples are one state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import ClassVar, Final

from services.planner.search.base import Search, Shape
from services.planner.search.frontier import (
    Growth,
    action_shares,
    first_action,
    is_over,
    put_first,
)
from services.planner.search.ranking import remaining_steps
from services.planner.tree import Node

_UNREADABLE_IMAGINATION: Final = 0.5


@dataclass(slots=True)
class _State:
    """An end of the tree, with its place in the order of expansion."""

    f: float
    order: int
    """Of equals the older one is expanded first."""
    node: Node
    g: float
    steps: int
    """Expansions between the root and the node."""

    def __lt__(self, other: "_State") -> bool:
        return (self.f, self.order) < (other.f, other.order)


class BestFirst:
    """See `SearchMethod`: the state of least cost goes on, with `branching` samples."""

    shape: ClassVar[Shape] = "tree"

    def __init__(self, *, branching: int) -> None:
        self.width = branching

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"BestFirst_w{self.width}"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        growth = Growth(search)
        frontier = [_State(0.0, 0, growth.root, 0.0, 0)]
        made = 1
        while frontier:
            state = heappop(frontier)
            if state.node.is_terminal:
                put_first(search, [state.node])
                break
            if state.node is not growth.root:
                growth.enter(state.node)
            for child in await self._successors(search, growth, state, made):
                heappush(frontier, child)
                made += 1
            put_first(search, [s.node for s in sorted(frontier) if s.node.is_terminal])
        await growth.close()

    async def _successors(
        self, search: Search, growth: Growth, state: _State, made: int
    ) -> list[_State]:
        """The distinct states that the samples lead to, but for those that ended in vain."""
        (leaves,) = await growth.expand([state.node], self.width, independent=True)
        shares = action_shares(state.node, leaves)
        costs = {
            leaf.node_id: state.g + 1 - share for leaf, share in zip(leaves, shares, strict=True)
        }
        kept = await _distinct(growth, state.node, leaves)
        steps = state.steps + 1
        futures = await search.together([partial(_future, search, leaf, steps) for leaf in kept])
        return [
            _State(costs[leaf.node_id] + h, made + index, leaf, costs[leaf.node_id], steps)
            for index, (leaf, h) in enumerate(zip(kept, futures, strict=True))
        ]


async def _distinct(growth: Growth, node: Node, leaves: Sequence[Node]) -> list[Node]:
    """The first leaf of every action, but for those that ended in vain."""
    kept: dict[tuple[str, str], Node] = {}
    for leaf in leaves:
        if kept.setdefault(first_action(node, leaf), leaf) is not leaf and not is_over(leaf):
            await growth.drop(leaf)
    return [leaf for leaf in kept.values() if not leaf.is_pruned]


async def _future(search: Search, leaf: Node, steps: int) -> float:
    """h(n), in [0, 1)."""
    if leaf.is_terminal:
        return 0.0
    left = await remaining_steps(search, leaf)
    return 1 - (_UNREADABLE_IMAGINATION if left is None else steps / (steps + left))


METHODS = {"best_first": lambda n: BestFirst(branching=n)}
