"""Draws the tree of a run from its events."""

from collections.abc import Sequence

from rich.markup import escape
from rich.tree import Tree

from services.contracts.planner import (
    Deliberated,
    ExpansionStarted,
    ModelReplied,
    PlanEvent,
    ToolFinished,
    ToolStarted,
)

_SHOWN_CHARS = 120


def run_tree(title: str, events: Sequence[PlanEvent]) -> Tree:
    """Every call below the one that it followed, with the numbers that a fork takes.

    A reply stands below the node at which the model was asked; a reply without a call is a node of
    its own, whose number shows when the model was asked again below it.

    Args:
        title: Shown at the root.
        events: Of the whole run, in order.
    """
    drawing = _Drawing(title)
    for event in events:
        drawing.add(event)
    return drawing.top


class _Drawing:
    def __init__(self, title: str) -> None:
        self.top = Tree(f"[bold]{escape(title)}[/]")
        self._branches: dict[int, Tree] = {0: self.top}
        self._below: dict[int, Tree] = {}
        self._calls: dict[int, Tree] = {}

    def add(self, event: PlanEvent) -> None:
        """Draw what the event tells."""
        match event:
            case ExpansionStarted():
                self._expand(event)
            case ModelReplied():
                self._reply(event)
            case ToolStarted():
                self._call(event)
            case ToolFinished():
                self._calls[event.call_id].add(f"[dim]{event.status}: {_cut(event.observation)}[/]")
            case Deliberated():
                self.top.add(f"[yellow]{escape(event.purpose)}[/] {_cut(event.text)}")

    def _expand(self, event: ExpansionStarted) -> None:
        base = self._branches.get(event.base_node_id or 0, self.top)
        if event.node_id not in self._branches:
            self._branches[event.node_id] = base.add(f"[cyan]{event.node_id}[/]")
        self._below[event.expansion] = self._branches[event.node_id]

    def _reply(self, event: ModelReplied) -> None:
        if event.message.content:
            self._below[event.expansion].add(f"[italic]{_cut(event.message.content)}[/]")

    def _call(self, event: ToolStarted) -> None:
        number = "" if event.input_node_id is None else f"[cyan]{event.input_node_id}[/] "
        name = escape(str(event.api) if event.api is not None else event.function)
        above = self._below.get(event.expansion, self.top)
        drawn = above.add(f"{number}[bold]{name}[/] {_cut(event.arguments)}")
        self._calls[event.call_id] = drawn
        if event.input_node_id is not None:
            self._branches[event.input_node_id] = drawn
            self._below[event.expansion] = drawn


def _cut(text: str) -> str:
    one_line = " ".join(text.split())
    shown = one_line if len(one_line) <= _SHOWN_CHARS else f"{one_line[: _SHOWN_CHARS - 1]}…"
    return escape(shown)
