"""DFS with a ranking of siblings by the model (ToolBench's `DFS_wN`, its "filter" variant).

Source: Qin et al. 2023 (ToolLLM), section 3.2; control flow exactly as in the reference (interop
5.4 and 5.5), written with an explicit stack. All children of a node are made, and their actions
carried out, before the first of them is entered.

Deviations, each with its switch of `Compat`: an answer among the children wins at once, where the
reference may rank it second and never come back (`ranking_may_lose_answers`); a give-up marks
nothing as finished (`ranking_marks_left_nodes_finished`).
"""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final, NamedTuple

from services.contracts.toolenv import CallStatus
from services.planner.search.base import Search, Shape
from services.planner.search.expansion import Expansion
from services.planner.search.frontier import name_best, put_first, put_in_order
from services.planner.search.ranking import ranked
from services.planner.tree import Node, mark_finished

_BACK_AFTER_GIVE_UP: Final = 2  # the reference's constant
_BACK_ONE: Final = 1


class _Branch(NamedTuple):
    leaf: Node
    expansion: Expansion


@dataclass(slots=True)
class _Frame:
    """A node whose subtree is being searched."""

    node: Node
    waiting: list[_Branch] | None = None
    """Branches not yet entered, best first; `None` before they were made."""
    unclosed: list[_Branch] = field(default_factory=list)
    entered: _Branch | None = None
    """Its subtree is what the frames above search."""

    def enter_next(self, waiting: list[_Branch]) -> Node:
        """The best branch that is left."""
        self.entered = waiting.pop(0)
        return self.entered.leaf

    async def leave(self, search: Search) -> None:
        """The branch entered last was searched."""
        if self.entered is not None:
            await self._give_up(self.entered, search)
            self.entered = None

    async def close(self, search: Search) -> None:
        """No branch will be entered any more."""
        for branch in reversed(self.unclosed):
            await self._give_up(branch, search)

    async def _give_up(self, branch: _Branch, search: Search) -> None:
        self.unclosed = [other for other in self.unclosed if other is not branch]
        await branch.expansion.close()
        await search.abandon(branch.leaf, keep=self.node, tell=False)


class DfsRanked:
    """See `SearchMethod`: `beam_width` children of each node, entered in the order of their rank.

    Leaving a subtree unwinds as in `DFS_woFilter_wN`. The first answer wins.
    """

    shape: ClassVar[Shape] = "ranked_tree"

    def __init__(self, *, beam_width: int) -> None:
        self.width = beam_width

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"DFS_w{self.width}"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        order = 0
        frames = [_Frame(search.plant())]
        back: int | None = None  # levels to unwind, when a subtree was just left
        while frames and not search.found.answers:
            frame = frames[-1]
            if back is not None:
                await frame.leave(search)
                back = _unwound(back, frame.node, search, is_root=len(frames) == 1)
            elif frame.waiting is None:
                frame.waiting = await self._branches(frame, search)
                continue  # an answer may be among them
            if back is None and frame.waiting:
                leaf = frame.enter_next(frame.waiting)
                order += 1
                leaf.entered = order
                back = _leave(leaf, search)
                if back is None:
                    frames.append(_Frame(leaf))
                continue
            await frame.close(search)
            frames.pop()
            back = back or _BACK_ONE
        for frame in reversed(frames):
            await frame.close(search)

    async def _branches(self, frame: _Frame, search: Search) -> list[_Branch]:
        """Children of the frame's node, best first."""
        search.remind(frame.node)
        works = [partial(self._branch, frame, search, index) for index in range(self.width)]
        try:
            made = [branch for branch in await search.together(works) if branch is not None]
        finally:
            name_best(search)
        leaves = [branch.leaf for branch in made]
        put_in_order(frame.node, leaves)
        if search.found.answers:
            put_first(search, [leaf for leaf in leaves if leaf.is_terminal])
        if search.found.answers or len(made) < 2:
            return made
        by_leaf = {branch.leaf.node_id: branch for branch in made}
        return [by_leaf[leaf.node_id] for leaf in await ranked(search, frame.node, leaves)]

    async def _branch(self, frame: _Frame, search: Search, index: int) -> _Branch | None:
        """One child; `None` when an elder sibling has answered."""
        if search.found.answers:
            return None
        is_alone = search.mode != "parallel"  # siblings made at once cannot be listed to each other
        expansion = Expansion(
            search,
            frame.node,
            vary=is_alone,
            rename_all=not search.compat.dfs_renames_first_call_only,
            sample=None if is_alone else index,
        )
        leaf = await expansion.run()
        if leaf.is_terminal:
            mark_finished(leaf)
            if not search.compat.ranking_may_lose_answers:
                search.found.answers.append(leaf)
        branch = _Branch(leaf, expansion)
        frame.unclosed.append(branch)
        return branch


def _leave(leaf: Node, search: Search) -> int | None:
    """Levels to unwind because the branch ends at this leaf; `None` when it goes on."""
    if leaf.is_terminal:
        put_first(search, [leaf])
        return _BACK_ONE
    if not leaf.is_pruned and leaf.depth < search.budget.limits.max_depth:
        return None
    leaf.is_pruned = True
    if leaf.status is CallStatus.GAVE_UP:
        search.found.give_ups.append(leaf)
        return _BACK_AFTER_GIVE_UP
    return _BACK_ONE


def _unwound(back: int, node: Node, search: Search, *, is_root: bool) -> int | None:
    """What a node hands on when its child returned `back`; `None` when it goes on itself."""
    compat = search.compat
    if back == _BACK_ONE or (is_root and not compat.first_step_give_up_ends_search):
        return None
    if compat.ranking_marks_left_nodes_finished:
        mark_finished(node)
    return back - 1


METHODS = {"dfs_ranked": lambda n: DfsRanked(beam_width=n)}
