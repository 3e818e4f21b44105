"""Growing one tree at several places at once, for searches that do not go depth first."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from services.contracts.toolenv import CallStatus
from services.planner.effects import canonical
from services.planner.finish import run_finish
from services.planner.search.base import Search
from services.planner.search.expansion import Expansion
from services.planner.tree import Node, NodeType, mark_finished


class _Made(NamedTuple):
    """How a leaf came to be."""

    expanded: Node
    expansion: Expansion


class Growth:
    """One tree and what is known about its leaves, while a search makes it grow."""

    def __init__(self, search: Search) -> None:
        """Plant the tree."""
        self.root = search.plant()
        self._search = search
        self._entered = 0
        self._unclosed: dict[int, _Made] = {}  # by the leaf's id

    async def expand(
        self, nodes: Sequence[Node], count: int, *, independent: bool = False
    ) -> list[list[Node]]:
        """Expand each node so many times; returns the leaves by node, in order.

        Leaves that end (`is_over`) are booked in `search.found` at once, so that a budget that
        ends the run in the midst of it loses no answer.

        Args:
            nodes: Nodes that may be expanded, none of them above another.
            count: Children of each, >= 1.
            independent: Draw all from the same question, each with a seed of its own. Without it
                each is asked to differ from its elder siblings; where siblings are made at once
                (mode `parallel`) they cannot be listed, and are drawn independently too.
        """
        independent = independent or self._search.mode == "parallel"
        for node in nodes:
            self._search.remind(node)
        try:
            leaves = await self._search.together(
                [
                    partial(self._child, node, index if independent else None)
                    for node in nodes
                    for index in range(count)
                ]
            )
        finally:
            name_best(self._search)
        grouped = [leaves[at : at + count] for at in range(0, len(leaves), count)]
        for node, group in zip(nodes, grouped, strict=True):
            put_in_order(node, group)
        return grouped

    async def _child(self, node: Node, sample: int | None) -> Node:
        expansion = Expansion(self._search, node, vary=sample is None, sample=sample)
        leaf = await expansion.run()
        self._unclosed[leaf.node_id] = _Made(node, expansion)
        if self._ends(leaf):
            self.enter(leaf)
            await self._leave(leaf)
        return leaf

    def _ends(self, leaf: Node) -> bool:
        """Whether the branch ends there; books how."""
        found = self._search.found
        if leaf.is_terminal:
            mark_finished(leaf)
            found.answers.append(leaf)
        elif leaf.depth >= self._search.budget.limits.max_depth:
            leaf.is_pruned = True
        if leaf.status is CallStatus.GAVE_UP:
            found.give_ups.append(leaf)
        return is_over(leaf)

    def enter(self, leaf: Node) -> None:
        """Number a leaf that the search goes on from, or that ends; see `Node.entered`."""
        self._entered += 1
        leaf.entered = self._entered

    async def drop(self, leaf: Node) -> None:
        """Give up an open leaf: the search will not go on from there."""
        leaf.is_pruned = True
        await self._leave(leaf)

    async def _leave(self, leaf: Node) -> None:
        made = self._unclosed.pop(leaf.node_id)
        await made.expansion.close()
        if not leaf.is_terminal:
            await self._search.abandon(leaf, keep=made.expanded, tell=False)

    async def close(self) -> None:
        """Tell that everything below every leaf was searched, latest first.

        When there is an answer, the branches that do not lead to one are left for good; without one
        the run leaves them all.
        """
        for made in reversed(self._unclosed.values()):
            await made.expansion.close()
        if self._search.found.answers:
            await self._search.abandon_all()


def is_over(leaf: Node) -> bool:
    """Whether a branch has ended: by an answer, a give-up, an error or a limit."""
    return leaf.is_terminal or leaf.is_pruned


def name_best(search: Search) -> None:
    """Make the first of `found.answers` the run's answer, whichever was given last."""
    found, repair = search.found, search.compat.repair_finish_arguments
    found.answer = (
        run_finish(found.answers[0].description, repair=repair).answer if found.answers else None
    )


def put_first(search: Search, answers: Sequence[Node]) -> None:
    """Order the answers found: these, best first, and then the others."""
    others = [leaf for leaf in search.found.answers if leaf not in answers]
    search.found.answers[:] = [*answers, *others]
    name_best(search)


def action_shares(node: Node, leaves: Sequence[Node]) -> list[float]:
    """How often each leaf's first action was drawn among all of them, in (0, 1].

    Source: self-consistency of actions, the term `SC(s)` of Zhou et al. 2023 (LATS), equation 2,
    and `g_t,2` of Zhuang et al. 2023 (ToolChain*), section 3.
    """
    actions = [first_action(node, leaf) for leaf in leaves]
    drawn = Counter(actions)
    return [drawn[action] / len(leaves) for action in actions]


def first_action(node: Node, leaf: Node) -> tuple[str, str]:
    """Function and arguments of the first call between a node and a leaf below it.

    Arguments that mean the same JSON are equal. Of a branch without a call it is the thought.
    """
    for step in leaf.path()[len(node.path()) :]:
        if step.node_type is NodeType.ACTION_INPUT and step.parent is not None:
            return step.parent.description, canonical(step.description)
    return "", leaf.description


def put_in_order(node: Node, leaves: Sequence[Node]) -> None:
    """Put a node's latest children into the order of the leaves below them.

    Children that are made at once come to be in any order.
    """
    below = len(node.path())
    tops = [leaf.path()[below] for leaf in leaves]
    node.children[:] = [child for child in node.children if child not in tops] + tops
