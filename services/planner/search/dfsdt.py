"""DFSDT: depth-first search over decisions, in pre-order (ToolBench's `DFS_woFilter_wN`).

Source: Qin et al. 2023 (ToolLLM), section 3.2, the variant that does not rank siblings; control
flow exactly as in the reference (interop 5.4), written with an explicit stack, so that the depth of
a tree is bounded by the limits and not by the interpreter.

In mode `speculative` the search runs ahead of itself (`services.planner.speculation`). A node whose
first child goes on is expanded again exactly when nothing below that child answers, so each node on
the way down is a bet on failure, the nearest one the best. Until the search had to go back for the
first time few calls are bet, on the nearest nodes and a few steps far; after that many, since an
instruction on which the model failed once makes it fail again more often than not. The numbers are
a compromise between waiting and unused calls, found with scripted models (`toolwright bench
planner`) and measured on other seeds than those they were found with.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, NamedTuple

from services.contracts.toolenv import CallStatus
from services.planner.search.base import Search, Shape
from services.planner.search.expansion import Expansion
from services.planner.tree import Node, mark_finished

_BACK_AFTER_FINISH: Final = 2  # the reference's constant for answers and give-ups
_BACK_ONE: Final = 1


class _Bets(NamedTuple):
    """What may be guessed ahead of time."""

    unused: int
    """Model calls of the run that were not needed yet, at most."""
    nodes: int
    """To come back to, the nearest ones."""
    steps: int
    """Model calls below each."""


_FIRST_BETS: Final = _Bets(unused=6, nodes=3, steps=4)
_BETS: Final = _Bets(unused=16, nodes=64, steps=64)
_MAX_GENERATION: Final = 2  # a search ahead runs ahead of itself too, its own ones no more


@dataclass(slots=True)
class _Frame:
    """A node whose subtree is being searched."""

    node: Node
    attempts: int = 0
    expansion: Expansion | None = None
    """The latest one; its subtree is what the frames above search."""
    is_foreseen: bool = False
    """Its next attempt is searched ahead of time."""


class Dfsdt:
    """See `SearchMethod`: each node is expanded up to `beam_width` times, the first answer wins.

    Leaving a subtree unwinds a number of levels: after a give-up the parent does not use its
    remaining attempts and the grandparent goes on; after the depth limit the parent goes on.
    """

    shape: ClassVar[Shape] = "tree"

    def __init__(self, *, beam_width: int) -> None:
        self.width = beam_width

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"DFS_woFilter_w{self.width}"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        await self._search([_Frame(search.plant())], search, is_tree=True)

    async def _search(
        self, frames: list[_Frame], search: Search, *, is_tree: bool, steps: int | None = None
    ) -> None:
        """Search below the frames, until an answer is found or they are used up.

        Args:
            frames: The way from where the search begins down to the node that is next.
            search: The run.
            is_tree: It begins at the root.
            steps: Expansions, at most.
        """
        order = 0
        back: int | None = None  # levels to unwind, when a subtree was just left
        leaf: Node | None = None  # of the latest attempt
        # A search ahead presumes that the one before it fails.
        has_failed = search.ahead is not None and search.ahead.generation > 0
        while frames:
            frame = frames[-1]
            if back is not None:
                if frame.expansion is not None:
                    await frame.expansion.close()
                back = _unwound(back, search, is_root=is_tree and len(frames) == 1)
                if back is not None:
                    frames.pop()
                    continue
            if frame.attempts == self.width:
                frames.pop()
                back = _BACK_ONE
                continue
            if leaf is not None and frame.attempts:
                await search.abandon(leaf, keep=frame.node)
            if order == steps:
                return
            self._look_ahead(frames, search, has_failed=has_failed)
            leaf = await self._attempt(frame, search)
            order += 1
            leaf.entered = order
            back = _leave(leaf, search)
            has_failed = has_failed or back is not None
            if back is None:
                frames.append(_Frame(leaf))

    def _look_ahead(self, frames: list[_Frame], search: Search, *, has_failed: bool) -> None:
        """Search the next attempts of the nodes on the way, the nearest first, ahead of time."""
        ahead = search.ahead
        is_speculative = search.mode == "speculative"
        if ahead is None or not is_speculative or ahead.generation == _MAX_GENERATION:
            return
        bets = _BETS if has_failed else _FIRST_BETS
        if ahead.generation == 0:
            ahead.speculation.bound(bets.unused)
        open_frames = [frame for frame in reversed(frames[:-1]) if frame.attempts < self.width]
        for frame in open_frames[: bets.nodes]:
            if frame.is_foreseen:
                continue
            if not ahead.speculation.has_room:
                return
            frame.is_foreseen = True
            begin = [_Frame(_detached(frame.node), frame.attempts)]
            is_tree = search.found.roots[:1] == [frame.node]
            work = partial(
                self._search, begin, ahead.search(search.budget), is_tree=is_tree, steps=bets.steps
            )
            ahead.speculation.start(work)

    async def _attempt(self, frame: _Frame, search: Search) -> Node:
        rename_all = not search.compat.dfs_renames_first_call_only
        expansion = Expansion(search, frame.node, vary=True, rename_all=rename_all)
        leaf = await expansion.run()
        frame.expansion = expansion
        frame.attempts += 1
        return leaf


def _detached(node: Node) -> Node:
    """A copy of the node, below copies of the nodes above it: what grows there changes no tree."""
    copy = below = replace(node, children=list(node.children))
    while below.parent is not None:
        below.parent = replace(below.parent, children=[])
        below = below.parent
    return copy


def _leave(leaf: Node, search: Search) -> int | None:
    """Levels to unwind because the branch ends at this leaf; `None` when it goes on."""
    found = search.found
    if leaf.is_terminal:
        mark_finished(leaf)
        found.answers.append(leaf)
        return _BACK_AFTER_FINISH
    if not leaf.is_pruned and leaf.depth < search.budget.limits.max_depth:
        return None
    leaf.is_pruned = True
    if leaf.status is CallStatus.GAVE_UP:
        found.give_ups.append(leaf)
        return _BACK_AFTER_FINISH
    return _BACK_ONE


def _unwound(back: int, search: Search, *, is_root: bool) -> int | None:
    """What a frame hands on when its child returned `back`; `None` when it goes on itself."""
    if search.found.answers:
        return back
    if is_root and not search.compat.first_step_give_up_ends_search:
        return None
    return back - 1 if back > _BACK_ONE else None


METHODS = {"dfsdt": lambda n: Dfsdt(beam_width=n)}
