"""Histories share their past; marks run up a path."""

import sys

from services.contracts.llm import Message
from services.planner.tree import NodeFactory, NodeType, extend, mark_finished


def user(text: str) -> Message:
    return Message(role="user", content=text)


def test_a_childs_history_starts_at_its_parents_last_link() -> None:
    nodes = NodeFactory()
    root = nodes.root(extend(None, user("a")))
    child = nodes.child(root, NodeType.THOUGHT, "t")
    child.history = extend(child.history, user("b"))
    assert child.history.past is root.history
    assert [m.content for m in root.history.shown()] == ["a"]


def test_a_hidden_message_is_shown_only_while_it_is_the_last() -> None:
    asked = extend(extend(None, user("a")), user("list"), hidden=True)
    later = extend(asked, user("b"))
    assert [m.content for m in asked.shown()] == ["a", "list"]
    assert [m.content for m in later.shown()] == ["a", "b"]
    assert [e.hidden for e in later.entries()] == [False, True, False]


def test_only_what_came_after_a_link_is_a_delta() -> None:
    first = extend(None, user("a"))
    later = extend(extend(first, user("b")), user("c"))
    assert [e.message.content for e in later.entries(since=first)] == ["b", "c"]
    assert later.entries(since=later) == ()


def test_a_very_deep_history_needs_no_recursion() -> None:
    history = extend(None, user("0"))
    for _ in range(2 * sys.getrecursionlimit()):
        history = extend(history, user("x"))
    assert len(history.shown()) == 2 * sys.getrecursionlimit() + 1


def test_a_tree_of_depth_50_holds_each_message_once() -> None:
    nodes = NodeFactory()
    node = nodes.root(extend(None, user("start")))
    for depth in range(50):
        node = nodes.child(node, NodeType.ACTION_INPUT, "{}")
        node.history = extend(node.history, user(str(depth)))
    links = {id(link) for step in node.ancestors() for link in step.history.links()}
    assert len(links) == 51


def test_an_answer_marks_the_last_two_calls_of_its_path() -> None:
    nodes = NodeFactory()
    node = nodes.root(extend(None, user("a")))
    steps = []
    for _ in range(3):
        action = nodes.child(node, NodeType.ACTION, "f")
        node = nodes.child(action, NodeType.ACTION_INPUT, "{}")
        steps += [action, node]
    mark_finished(node)
    # From the leaf up to the action input two calls above it; that one's own action is not marked.
    assert [step.is_finished for step in steps] == [False, True, True, True, True, True]


def test_nodes_are_numbered_over_all_trees_of_a_run() -> None:
    nodes = NodeFactory()
    first = nodes.root(extend(None, user("a")))
    second = nodes.root(extend(None, user("b")))
    assert (first.node_id, second.node_id) == (0, 1)
