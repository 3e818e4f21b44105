"""Looks through JSON values of strangers without recursion, however deep they are."""

from collections.abc import Iterator

from pydantic import JsonValue


def reaches_depth(value: JsonValue, depth: int) -> bool:
    """Whether something lies inside `depth` or more levels of objects and lists."""
    level = [value]
    for _ in range(depth):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def outside_reference(schema: JsonValue) -> str | None:
    """The first reference of a JSON Schema that leads out of it, e.g. `$ref https://...`."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for key in ("$ref", "$dynamicRef"):
                target = node.get(key)
                if isinstance(target, str) and not target.startswith("#"):
                    return f"{key} {target[:100]!r}"
        pending += _children(node)
    return None


def _children(node: JsonValue) -> Iterator[JsonValue]:
    if isinstance(node, dict):
        yield from node.values()
    elif isinstance(node, list):
        yield from node
