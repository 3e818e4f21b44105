"""Two spellings of a call have one address; two calls have two."""

import json
import math
import random

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.apis import ApiRef
from services.toolenv.cassettes.key import call_key, canonical, key_of
from services.toolenv.invocation import prepare
from tests.fakes.tool_sandbox import make_entry

REF = ApiRef(category="Weather", tool="open_weather", api="get_forecast")
EXACT = 2**53 - 1

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(texts, values, max_size=5)
# What RFC 8785 has a form for: no integers beyond 2**53, and no doubles that are such integers.
within_rfc = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-EXACT, EXACT)
    | st.floats(-1e15, 1e15, allow_nan=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def respelled(value: object, chance: random.Random) -> str:
    """The same JSON value with other white space, key order and number spelling."""
    gap = " " * chance.randrange(3)
    if isinstance(value, dict):
        members = list(value.items())
        chance.shuffle(members)
        inner = ("," + gap).join(
            f"{json.dumps(k)}{gap}:{gap}{respelled(v, chance)}" for k, v in members
        )
        return "{" + gap + inner + gap + "}"
    if isinstance(value, list):
        return "[" + gap + ("," + gap).join(respelled(v, chance) for v in value) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= EXACT:
        return chance.choice([str(value), f"{value}.0", f"{value}e0", f"{value}.00E+0"])
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal; Python alone would call `True` and 1 equal."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(objects, st.integers())
def test_key_order_white_space_and_number_spelling_do_not_matter(
    arguments: dict[str, object], seed: int
) -> None:
    text = respelled(arguments, random.Random(seed))
    assert call_key(REF, json.loads(text)) == call_key(REF, arguments)


@given(values, values)
def test_values_have_one_form_exactly_when_they_are_equal(one: object, other: object) -> None:
    assert (canonical(one) == canonical(other)) == same(one, other)


@given(values)
def test_the_form_is_json_for_the_same_value(value: object) -> None:
    assert same(json.loads(canonical(value)), value)


@given(within_rfc)
def test_the_form_is_that_of_rfc_8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(objects)
def test_the_key_of_written_arguments_is_the_key_of_the_call(arguments: dict[str, object]) -> None:
    written = canonical(arguments)
    assert key_of(REF.category, REF.tool, REF.api, written) == call_key(REF, arguments)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1.0", "1"),
        ("1e0", "1"),
        ("-0.0", "0"),
        ("-0", "0"),
        ("1e21", "1" + "0" * 21),
        ("1000000000000000000000", "1" + "0" * 21),
        ("9007199254740992", "9007199254740992"),
        ("9007199254740992.0", "9007199254740992"),
        ("9007199254740993", "9007199254740993"),
        ("0.00001", "0.00001"),
        ("1e-7", "1e-7"),
        ("5e-324", "5e-324"),
        ("true", "true"),
        ('{"\U00010000": 1, "\uffff": 2}', '{"\U00010000":1,"\uffff":2}'),
    ],
)
def test_a_spelling_has_this_form(text: str, form: str) -> None:
    assert canonical(json.loads(text)) == form.encode()


def test_large_integers_that_a_double_cannot_tell_apart_have_two_keys() -> None:
    first, second = ({"id": 2**64 + offset} for offset in (0, 1))
    assert call_key(REF, first) != call_key(REF, second)


def test_text_is_not_normalised() -> None:
    assert canonical("\u00e9") != canonical("e\u0301")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical([value])


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {1, 2}}])
def test_what_is_no_json_value_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r".+"):
        canonical(value)


@pytest.mark.parametrize("leaf", ["1", "1.0"])
def test_deep_nesting_that_the_parser_takes_has_a_key(leaf: str) -> None:
    entry = make_entry()
    keys = [
        prepare(entry, '{"text": ' + "[" * depth + leaf + "]" * depth + "}").key
        for depth in (50, 200, 400)
    ]
    assert None not in keys
    assert len(set(keys)) == 3


def test_the_key_is_stable_across_versions() -> None:
    arguments = {"city": "Zürich", "days": 3, "unit": None, "at": 0.5}
    assert call_key(REF, arguments) == (
        "0826ea14dfd4fedb038c161c9291c5399399ae21e963478c98f4467a7c7e837d"
    )
