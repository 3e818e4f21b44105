"""Breadth-first search with a beam (`BFS_wN`; ToolBench names BFS and does not implement it).

Source: Yao et al. 2023 (Tree of Thoughts), algorithm 1 (ToT-BFS), with k = b = N: at each level
every state is expanded k times, the new states are scored, and the best b are kept. Expansion as in
section 3, "Thought generator": (b), one after the other and each told of its elder siblings, in
mode `exact`; (a), independent samples, in mode `parallel`. Scores as in "State evaluator" (a).

Deviations: the number of levels T is the depth limit, and the search ends at the first level with
an answer; several are compared by vote ("State evaluator" (b)). States are scored only where there
are more than b.
"""

from collections.abc import Sequence
from typing import ClassVar

from services.planner.search.base import Search, Shape
from services.planner.search.frontier import Growth, is_over, put_first
from services.planner.search.ranking import values, vote_shares
from services.planner.tree import Node


class Bfs:
    """See `SearchMethod`: level by level, the best `beam_width` states go on."""

    shape: ClassVar[Shape] = "tree"

    def __init__(self, *, beam_width: int) -> None:
        self.width = beam_width

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"BFS_w{self.width}"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        growth = Growth(search)
        level = [growth.root]
        while level and not search.found.answers:
            grouped = await growth.expand(level, self.width)
            leaves = [leaf for group in grouped for leaf in group]
            if search.found.answers:
                answers = [leaf for leaf in leaves if leaf.is_terminal]
                put_first(search, _by_score(answers, await vote_shares(search, answers)))
                break
            level = await self._kept(search, growth, [x for x in leaves if not is_over(x)])
        await growth.close()

    async def _kept(self, search: Search, growth: Growth, leaves: Sequence[Node]) -> list[Node]:
        """The states that go on, best first."""
        best = list(leaves)
        if len(leaves) > self.width:
            best = _by_score(leaves, await values(search, leaves))
        for leaf in best[self.width :]:
            await growth.drop(leaf)
        for leaf in best[: self.width]:
            growth.enter(leaf)
        return best[: self.width]


def _by_score(leaves: Sequence[Node], scores: Sequence[float]) -> list[Node]:
    """The leaves by falling score; equals stay in their order."""
    order = sorted(range(len(leaves)), key=lambda index: -scores[index])
    return [leaves[index] for index in order]


METHODS = {"bfs": lambda n: Bfs(beam_width=n)}
