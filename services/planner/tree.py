"""The search tree: nodes of ToolBench's three types, and histories that share their past.

A history is a linked list from its last message back to the first one. A child's history starts at
its parent's last link, so a tree holds every message once, however deep it grows.

Source: Qin et al. 2023 (ToolLLM), section 3.2; node types as in the reference (interop 5.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from services.contracts.llm import Message
from services.contracts.planner import HistoryMessage
from services.contracts.toolenv import CallStatus


class NodeType(StrEnum):
    """What a node stands for; the root is an empty action input."""

    THOUGHT = "Thought"
    ACTION = "Action"
    ACTION_INPUT = "Action Input"


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A conversation, as its last message and the conversation before it."""

    past: "History | None"
    entry: HistoryMessage

    def links(self, *, since: "History | None" = None) -> list["History"]:
        """The links after `since`, oldest first; all of them when `since` is `None`."""
        found: list[History] = []
        link: History | None = self
        while link is not None and link is not since:
            found.append(link)
            link = link.past
        found.reverse()
        return found

    def entries(self, *, since: "History | None" = None) -> tuple[HistoryMessage, ...]:
        """The messages after `since`, oldest first."""
        return tuple(link.entry for link in self.links(since=since))

    def shown(self) -> tuple[Message, ...]:
        """What the model sees: hidden messages are left out, but for the last one."""
        messages = [self.entry.message]
        link = self.past
        while link is not None:
            entry = link.entry
            if not entry.hidden:
                messages.append(entry.message)
            link = link.past
        messages.reverse()
        return tuple(messages)


def extend(history: History | None, message: Message, *, hidden: bool = False) -> History:
    """The history with one more message at its end."""
    return History(history, HistoryMessage(message=message, hidden=hidden))


@dataclass(slots=True, eq=False)
class Node:
    """A node of the search tree."""

    node_id: int
    node_type: NodeType
    description: str
    """Thought, function name, or raw arguments."""
    parent: "Node | None"
    history: History
    """The conversation that holds at this node."""
    depth: int
    """Edges from the root; thought, action and action input count one each."""
    children: list["Node"] = field(default_factory=list)
    observation: str = ""
    status: CallStatus | None = None
    is_terminal: bool = False
    is_pruned: bool = False
    is_finished: bool = False
    """On the last two calls of a path to an answer; informational, as in the reference."""
    is_loop: bool = False
    """Pruned because its path runs in circles."""
    entered: int = 0
    """Running number with which the search entered the node; 0 for the root and nodes between."""
    announced: History | None = None
    """Its history as last told to the caller."""

    def path(self) -> list["Node"]:
        """The nodes from below the root down to this one."""
        nodes: list[Node] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def ancestors(self) -> Iterator["Node"]:
        """The node itself, then its parent, up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


class NodeFactory:
    """Makes the nodes of one run, numbered from 0 in the order in which they appear."""

    def __init__(self) -> None:
        self._next_id = 0

    def root(self, history: History) -> Node:
        """A new tree's root."""
        return self._make(NodeType.ACTION_INPUT, "", None, history, 0)

    def child(self, parent: Node, node_type: NodeType, description: str) -> Node:
        """A new last child, whose history is its parent's."""
        node = self._make(node_type, description, parent, parent.history, parent.depth + 1)
        parent.children.append(node)
        return node

    def _make(
        self,
        node_type: NodeType,
        description: str,
        parent: Node | None,
        history: History,
        depth: int,
    ) -> Node:
        node = Node(self._next_id, node_type, description, parent, history, depth)
        self._next_id += 1
        return node


def mark_finished(leaf: Node, *, calls: int = 2) -> None:
    """Mark an answer's path from its leaf up to the action input `calls` calls above it."""
    for node in leaf.ancestors():
        node.is_finished = True
        if node.node_type is NodeType.ACTION_INPUT:
            calls -= 1
        if calls < 0:
            return
