"""The path with which a forked run's trees start: nodes and conversation of the run it came from.

A trunk is data, so that a forked run's journal holds all it needs. Its conversation is stored as
links like those of `tree.History`, each once, though every node has a history of its own.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.contracts.base import ForeignModel
from services.contracts.errors import InvalidArgument
from services.contracts.llm import Message, MessageToolCall
from services.contracts.planner import ForkedAction, HistoryMessage
from services.contracts.toolbench.functions import FINISH
from services.contracts.toolenv import CallStatus
from services.planner.tree import History, Node, NodeFactory, NodeType

_OPENING: Final = -1
"""In place of a link: what every tree of the run starts with."""


class TrunkLink(ForeignModel):
    """One message and the link before it; `past` is -1 after the run's opening."""

    past: int
    entry: HistoryMessage


class TrunkNode(ForeignModel):
    """One node of the path below the root."""

    node_type: NodeType
    description: str
    observation: str = ""
    status: CallStatus | None = None
    history: int = _OPENING
    """Index of the last link of its conversation; -1 when that is the opening."""


class TrunkRecord(ForeignModel):
    """A path as data, the node to go on from last."""

    nodes: tuple[TrunkNode, ...] = ()
    links: tuple[TrunkLink, ...] = ()
    action: ForkedAction | None = None
    """To be carried out at the last node, whose observation it gives."""


class Grown(NamedTuple):
    """A tree that has just a trunk."""

    root: Node
    tip: Node
    """Where the search goes on."""


class Trunk:
    """Starts the trees of one forked run."""

    def __init__(self, record: TrunkRecord) -> None:
        self.action = record.action
        self._nodes = list(record.nodes)
        self._links = list(record.links)

    def grow(self, nodes: NodeFactory, opening: History) -> Grown:
        """A new tree: copies of the path's nodes, after this opening."""
        histories: list[History] = []
        for link in self._links:
            past = opening if link.past == _OPENING else histories[link.past]
            histories.append(History(past, link.entry))
        tip = root = nodes.root(opening)
        for node in self._nodes:
            tip = nodes.child(tip, node.node_type, node.description)
            tip.history = opening if node.history == _OPENING else histories[node.history]
            tip.observation, tip.status = node.observation, node.status
        return Grown(root, tip)

    def settle(self, observed: Node) -> None:
        """Give later trees what the action led to, as its node in the first tree shows it."""
        self.action = None
        last = self._nodes[-1]
        entry = observed.history.entry
        self._links.append(TrunkLink(past=last.history, entry=entry))
        self._nodes[-1] = last.model_copy(
            update={
                "observation": observed.observation,
                "status": observed.status,
                "history": len(self._links) - 1,
            }
        )


def trunk_of(
    node: Node,
    opening: History,
    *,
    action: ForkedAction | None = None,
    observation: str | None = None,
) -> TrunkRecord:
    """The path down to a node, with its action or its observation replaced.

    Of a reply that asked for several calls, those after the node's own are left out: nobody has
    carried them out in this past.

    Args:
        node: Where the fork goes on.
        opening: What its run's trees start with.
        action: Instead of the node's own action; see `TrunkRecord.action`.
        observation: Instead of the node's own observation.

    Raises:
        InvalidArgument: The node cannot be changed in that way, or nothing can follow it.
    """
    _require_possible(node, action=action, observation=observation)
    table = _Links(opening)
    path = [_stored(step, table) for step in node.path()]
    if path:
        past, entries = _conversation(node)
        if observation is not None:
            entries[-1] = _with_content(entries[-1], observation)
        elif action is not None:
            entries = [_with_action(entries[0], action), *entries[1:-1]]
            path[-2] = path[-2].model_copy(update={"description": action.function})
        path[-1] = _changed(path[-1], action, observation).model_copy(
            update={"history": table.put(past, entries)}
        )
    return TrunkRecord(nodes=tuple(path), links=tuple(table.links), action=action)


class _Conversation(NamedTuple):
    """The last messages of a conversation, and the link before them."""

    past: History | None
    entries: list[HistoryMessage]


class _Links:
    """Conversations, each link stored once."""

    def __init__(self, opening: History) -> None:
        self.links: list[TrunkLink] = []
        self._opening = {id(link) for link in opening.links()}
        self._known: dict[int, int] = {}

    def index(self, history: History) -> int:
        """Of the link, which is stored with all before it."""
        last = _OPENING
        for link in history.links():
            if id(link) in self._opening:
                continue
            if id(link) not in self._known:
                self._known[id(link)] = len(self.links)
                self.links.append(TrunkLink(past=last, entry=link.entry))
            last = self._known[id(link)]
        return last

    def put(self, past: History | None, entries: Sequence[HistoryMessage]) -> int:
        """Of a conversation whose last messages were changed."""
        last = self.index(past) if past is not None else _OPENING
        for entry in entries:
            self.links.append(TrunkLink(past=last, entry=entry))
            last = len(self.links) - 1
        return last


def _conversation(node: Node) -> _Conversation:
    """The node's own last messages, such that any model accepts them as a past.

    Raises:
        InvalidArgument: The node's conversation ends in another way than its kind of node says.
    """
    history = node.history
    while history.past is not None and history.entry.hidden:
        history = history.past  # asks for another action at this node, which has none now
    answers: list[HistoryMessage] = []
    link: History | None = history
    while link is not None and link.entry.message.role == "tool":
        answers.insert(0, link.entry)
        link = link.past
    if node.node_type is NodeType.THOUGHT:
        said = () if _says(history, node.description) else (_said(node.description),)
        return _Conversation(history, list(said))
    if link is None or not answers or len(link.entry.message.tool_calls) < len(answers):
        raise InvalidArgument(f"node {node.node_id} is no call whose answer was kept")
    calls = link.entry.message.tool_calls[: len(answers)]
    return _Conversation(link.past, [_with_calls(link.entry, calls), *answers])


def _require_possible(node: Node, *, action: ForkedAction | None, observation: str | None) -> None:
    where = f"node {node.node_id}"
    if action is not None and observation is not None:
        raise InvalidArgument("give an action or an observation; an action brings its own")
    if node.node_type is NodeType.ACTION:
        raise InvalidArgument(f"{where} is the name of a call; its input is the node below it")
    if (action is not None or observation is not None) and (
        node.node_type is not NodeType.ACTION_INPUT or node.parent is None
    ):
        raise InvalidArgument(f"{where} is no call, so it has no action and no observation")
    if action is not None and action.function == FINISH:
        raise InvalidArgument(f"{FINISH} leaves nothing to go on with; give another action")
    ends = node.is_terminal or node.status in (CallStatus.GAVE_UP, CallStatus.MODEL_ERROR)
    if ends and action is None:
        raise InvalidArgument(f"{where} ends its path; give another action, or a node above it")


def _stored(node: Node, table: _Links) -> TrunkNode:
    return TrunkNode(
        node_type=node.node_type,
        description=node.description,
        observation=node.observation,
        status=node.status,
        history=table.index(node.history),
    )


def _changed(node: TrunkNode, action: ForkedAction | None, observation: str | None) -> TrunkNode:
    if action is not None:
        changes: dict[str, object] = {
            "description": action.arguments,
            "observation": "",
            "status": None,
        }
        return node.model_copy(update=changes)
    if observation is not None:
        return node.model_copy(update={"observation": observation, "status": CallStatus.OK})
    return node


def _said(text: str) -> HistoryMessage:
    return HistoryMessage(message=Message(role="assistant", content=text))


def _says(history: History, text: str) -> bool:
    message = history.entry.message
    return message.role == "assistant" and message.content == text


def _with_calls(entry: HistoryMessage, calls: Sequence[MessageToolCall]) -> HistoryMessage:
    message = entry.message.model_copy(update={"tool_calls": tuple(calls)})
    return entry.model_copy(update={"message": message})


def _with_content(entry: HistoryMessage, content: str) -> HistoryMessage:
    return entry.model_copy(
        update={"message": entry.message.model_copy(update={"content": content})}
    )


def _with_action(entry: HistoryMessage, action: ForkedAction) -> HistoryMessage:
    """The reply with its last call replaced."""
    *earlier, last = entry.message.tool_calls
    call = last.model_copy(update={"name": action.function, "arguments": action.arguments})
    return _with_calls(entry, (*earlier, call))
