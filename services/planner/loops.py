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
    equal = [node for node in leaf.ancestors() if _looks_like(node, leaf)]
    if len(equal) < length:
        return False
    arguments = _canonical(leaf.description)
    return sum(_canonical(node.description) == arguments for node in equal) >= length


def _looks_like(node: Node, leaf: Node) -> bool:
    """Same function and observation; the arguments are read only where that holds."""
    return (
        node.node_type is NodeType.ACTION_INPUT
        and node.parent is not None
        and leaf.parent is not None
        and node.observation == leaf.observation
        and node.parent.description == leaf.parent.description
    )


def _canonical(arguments: str) -> str:
    """Arguments without differences of spacing and order of keys."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments.strip()
