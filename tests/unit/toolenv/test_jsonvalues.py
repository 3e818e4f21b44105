"""Depth and references of JSON values, however deep they are."""

import pytest
from pydantic import JsonValue

from services.toolenv.jsonvalues import outside_reference, reaches_depth


def nested(levels: int) -> JsonValue:
    value: JsonValue = 1
    for number in range(levels):
        value = [value] if number % 2 else {"key": value}
    return value


@pytest.mark.parametrize(("levels", "is_too_deep"), [(0, False), (2, False), (3, True)])
def test_levels_of_objects_and_lists_are_counted(levels: int, is_too_deep: bool) -> None:
    assert reaches_depth(nested(levels), 3) is is_too_deep


def test_a_depth_that_no_recursion_survives_is_measured() -> None:
    assert reaches_depth(nested(50_000), 64)
    assert outside_reference(nested(50_000)) is None


def test_a_reference_inside_is_none_and_one_outside_is_named() -> None:
    inside = {"properties": {"a": {"$ref": "#/$defs/a"}}}
    assert outside_reference(inside) is None
    assert outside_reference({"anyOf": [inside, {"$dynamicRef": "http://x/y"}]}) == (
        "$dynamicRef 'http://x/y'"
    )
