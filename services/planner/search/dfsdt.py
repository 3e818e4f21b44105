"""DFSDT: depth-first search over decisions, in pre-order (ToolBench's `DFS_woFilter_wN`).

Source: Qin et al. 2023 (ToolLLM), section 3.2, the variant that does not rank siblings; control
flow exactly as in the reference (interop 5.4), written with an explicit stack, so that the depth of
a tree is bounded by the limits and not by the interpreter.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from services.contracts.toolenv import CallStatus
from services.planner.search.base import Search, Shape
from services.planner.search.expansion import Expansion
from services.planner.tree import Node, mark_finished

_BACK_AFTER_FINISH: Final = 2  # the reference's constant for answers and give-ups
_BACK_ONE: Final = 1


@dataclass(slots=True)
class _Frame:
    """A node whose subtree is being searched."""

    node: Node
    attempts: int = 0
    expansion: Expansion | None = None
    """The latest one; its subtree is what the frames above search."""


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
        order = 0
        frames = [_Frame(search.plant())]
        back: int | None = None  # levels to unwind, when a subtree was just left
        while frames:
            frame = frames[-1]
            if back is not None:
                if frame.expansion is not None:
                    await frame.expansion.close()
                back = _unwound(back, search, is_root=len(frames) == 1)
                if back is not None:
                    frames.pop()
                    continue
            if frame.attempts == self.width:
                frames.pop()
                back = _BACK_ONE
                continue
            leaf = await self._attempt(frame, search)
            order += 1
            leaf.entered = order
            back = _leave(leaf, search)
            if back is None:
                frames.append(_Frame(leaf))

    async def _attempt(self, frame: _Frame, search: Search) -> Node:
        rename_all = not search.compat.dfs_renames_first_call_only
        expansion = Expansion(search, frame.node, vary=True, rename_all=rename_all)
        leaf = await expansion.run()
        frame.expansion = expansion
        frame.attempts += 1
        return leaf


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
