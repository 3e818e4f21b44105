"""Arguments against a function's schema: what is refused, and what is converted."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.planner.schema_check import SchemaCheck, schema_check

PARAMETERS = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1},
        "x": {"type": "number"},
        "s": {"type": "string", "pattern": "^(a+)+$"},
        "b": {"type": "boolean"},
        "e": {"enum": ["red", "blue"]},
        "l": {"type": "array", "items": {"type": "integer"}},
        "o": {"type": "object", "properties": {"k": {"type": "integer"}}, "required": ["k"]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "maybe": {"type": "string", "nullable": True},
        "far": {"$ref": "http://203.0.113.1/schema.json"},
    },
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "'n' is missing, it must be an integer"),
        ({"n": "five"}, "'n' must be an integer, not \"five\""),
        ({"n": None}, "'n' must be an integer, not null"),
        ({"n": True}, "'n' must be an integer, not true"),
        ({"n": 2.5}, "'n' must be an integer, not 2.5"),
        ({"n": 0}, "'n' is 0, which minimum 1 forbids"),
        ({"n": 1, "e": "green"}, '\'e\' must be one of ["red", "blue"], not "green"'),
        ({"n": 1, "l": ["x"]}, "'l.0' must be an integer, not \"x\""),
        ({"n": 1, "o": {}}, "'k' is missing in 'o', it must be an integer"),
        ({"n": 1, "either": "x"}, "'either' must not be \"x\": it must be an integer or null"),
        ({"n": 1, "N": 2}, "there is no parameter 'N'; did you mean n?"),
        ({"n": 1, "zzz": 2}, "there is no parameter 'zzz'; it takes n, x, s"),
        ({"n": "y" * 500}, f"'n' must be an integer, not \"{'y' * 79}..."),
    ],
)
def test_each_wrong_field_is_named_with_what_it_should_be(
    fields: dict[str, object], told: str
) -> None:
    assert told in schema_check(PARAMETERS).check(fields).problem


def test_all_wrong_fields_are_told_at_once_but_not_endlessly_many() -> None:
    problem = (
        schema_check(PARAMETERS).check({"n": "x", "b": "maybe", "l": list("abcdefgh")}).problem
    )
    assert "'n'" in problem and "'b'" in problem
    assert problem.count(";") == 4


@pytest.mark.parametrize(
    ("fields", "converted"),
    [
        ({"n": "5"}, {"n": 5}),
        ({"n": 5.0}, {"n": 5}),
        ({"n": 1, "x": "-2.50"}, {"n": 1, "x": -2.5}),
        ({"n": 1, "s": 20}, {"n": 1, "s": "20"}),
        ({"n": 1, "s": True}, {"n": 1, "s": "true"}),
        ({"n": 1, "b": "False"}, {"n": 1, "b": False}),
        ({"n": 1, "l": "[1, 2]"}, {"n": 1, "l": [1, 2]}),
        ({"n": 1, "o": '{"k": 1}'}, {"n": 1, "o": {"k": 1}}),
        ({"n": 1, "s": None}, {"n": 1}),
    ],
)
def test_what_fits_without_loss_is_brought_into_its_type(
    fields: dict[str, object], converted: dict[str, object]
) -> None:
    checked = schema_check(PARAMETERS).check(fields)
    assert (checked.fields, checked.is_converted, checked.problem) == (converted, True, "")


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "x": 2, "b": True, "e": "red"},
        {"n": 1, "either": None, "maybe": None},
        {"n": 1, "far": ["whatever"]},
        {"n": 1, "s": "a" * 40 + "!"},  # a pattern from a stranger is not run
    ],
)
def test_right_arguments_stay_as_they_are(fields: dict[str, object]) -> None:
    checked = schema_check(PARAMETERS).check(fields)
    assert (checked.fields, checked.is_converted, checked.problem) == (fields, False, "")


@pytest.mark.parametrize(
    "schema",
    ['{"type": "nonsense"}', '{"required": 5}', "true", "[" * 9_000, "{", '{"$ref": "#/x"}'],
)
def test_a_broken_schema_checks_nothing(schema: str) -> None:
    assert SchemaCheck(schema).check({"a": 1}).problem == ""


def test_a_schema_made_to_cost_time_is_left_to_the_tool() -> None:
    slow = {"items": {"anyOf": [{"type": "null"}] * 240 + [{"type": "integer"}]}}
    check = schema_check({"type": "object", "properties": {"a": slow}})
    began = time.perf_counter()
    assert check.check({"a": [1] * 20_000}).problem == ""
    assert time.perf_counter() - began < 0.5


def test_deep_schemas_and_arguments_are_left_to_the_tool() -> None:
    schema: dict[str, object] = {"type": "integer"}
    value: object = "x"
    for _ in range(400):
        schema, value = {"items": schema}, [value]
    check = SchemaCheck(json.dumps({"properties": {"a": schema}}))
    assert check.check({"a": value}).problem == ""


@pytest.mark.parametrize(
    ("schema", "fields", "is_right"),
    [
        ({"allOf": [{"required": ["a"]}]}, {}, False),
        ({"type": "array"}, {}, False),
        ({"properties": {"a": {"type": "integer"}}}, {"a": True}, False),
        ({"properties": {"a": {"type": "number"}}}, {"a": 1}, True),
        ({"properties": {"a": {"type": "string"}}}, {"b": [1]}, True),
        ({"properties": {"a": {"type": "string"}}, "required": ["b"]}, {"a": "x"}, False),
        ({"properties": {"a": {"type": "string", "minLength": 2}}}, {"a": "x"}, False),
    ],
)
def test_simple_schemas_are_checked_like_all_others(
    schema: dict[str, object], fields: dict[str, object], is_right: bool
) -> None:
    assert (schema_check(schema).check(fields).problem == "") is is_right


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*PARAMETERS["properties"], "other"]), JSON))
def test_any_arguments_get_a_verdict_and_converted_ones_pass(fields: dict[str, object]) -> None:
    check = schema_check(PARAMETERS)
    checked = check.check(fields)
    assert checked.problem or check.check(checked.fields).problem == ""
