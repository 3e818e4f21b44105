"""ToolBench's name transforms against golden vectors of the reference."""

import keyword
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.apis import ApiRef
from services.contracts.toolbench.names import (
    api_identifier,
    change_name,
    distinct_names,
    function_name,
    python_identifier,
    standardize,
    standardize_category,
)


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("a^b", "a^b"),
        ("Olato Quotes", "olato_quotes"),
        ("/offices/search/:service/:stateIsoCode", "offices_search_service_stateisocode"),
        ("3D Model", "get_3d_model"),
        ("___", ""),
        ("天气 API", "天气_api"),
        ("É-café", "caf"),
        ("__A__B__", "a_b"),
        ("100% Success X - Scalable & Robust", "get_100_success_x_scalable_robust"),
        ("２x", "x"),
        ("Investors Exchange (IEX) Trading", "investors_exchange_iex_trading"),
    ],
)
def test_standard_names_are_those_of_the_reference(name: str, standard: str) -> None:
    assert standardize(name) == standard


@pytest.mark.parametrize(
    ("name", "changed"), [("id", "is_id"), ("and", "is_and"), ("in", "in"), ("From", "From")]
)
def test_seven_reserved_words_are_prefixed(name: str, changed: str) -> None:
    assert change_name(name) == changed


@pytest.mark.parametrize(
    ("category", "standard"),
    [
        ("News, Media", "News_Media"),
        ("a,  b", "a__b"),
        ("a___b", "a__b"),
        ("Text-Analysis", "Text-Analysis"),
        ("a%20b%2Fc", "a%20b%2Fc"),
        ("Artificial Intelligence/Machine Learning", "Artificial_Intelligence_Machine_Learning"),
    ],
)
def test_standard_categories_are_those_of_the_reference(category: str, standard: str) -> None:
    assert standardize_category(category) == standard


def test_a_function_name_keeps_its_last_64_characters() -> None:
    api = api_identifier("A very long api name that goes on and on for ever")
    assert function_name(api, "a_fairly_long_tool_name_as_well") == (
        "that_goes_on_and_on_for_ever_for_a_fairly_long_tool_name_as_well"
    )


@given(st.text(alphabet=st.characters(max_codepoint=0x7F), max_size=40))
def test_standardising_twice_changes_nothing(name: str) -> None:
    assert standardize(standardize(name)) == standardize(name)


NAMES = st.text(min_size=1, max_size=80).filter(lambda text: "/" not in text)
REFS = st.builds(ApiRef, category=NAMES, tool=NAMES, api=NAMES)
FEW = st.sampled_from(["a", "a_for_b", "b", "天气", "x" * 70])
COLLIDING = st.builds(ApiRef, category=FEW, tool=FEW, api=FEW)


@given(st.lists(REFS | COLLIDING, max_size=12), st.randoms())
def test_any_apis_have_valid_distinct_names_whatever_their_order(
    refs: list[ApiRef], random: Random
) -> None:
    names = distinct_names(refs, taken=("Finish",))
    assert set(names) == set(refs)
    assert len(set(names.values())) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names.values())
    assert "Finish" not in names.values()
    random.shuffle(refs)
    assert distinct_names(refs, taken=("Finish",)) == names


@given(st.lists(REFS, max_size=6), st.lists(REFS, max_size=6))
def test_a_name_stays_when_apis_of_other_names_are_added(
    refs: list[ApiRef], added: list[ApiRef]
) -> None:
    before = {(ref.api, ref.tool) for ref in refs}
    others = [ref for ref in added if (ref.api, ref.tool) not in before]
    joined = distinct_names([*refs, *others])
    plain = {f"{ref.api}_for_{ref.tool}" for ref in others}
    names = distinct_names(refs)
    kept = {ref: name for ref, name in names.items() if f"{ref.api}_for_{ref.tool}" not in plain}
    assert {ref: joined[ref] for ref in kept} == kept


def test_apis_of_one_name_in_two_categories_are_told_apart_by_their_addresses() -> None:
    first = ApiRef(category="A", tool="t", api="x")
    second = ApiRef(category="B", tool="t", api="x")
    names = distinct_names([second, first])
    assert names[first].startswith("x_for_t_")
    assert distinct_names([first])[first] == "x_for_t"
    assert names[first] != names[second]


@pytest.mark.parametrize("word", sorted(keyword.kwlist))
def test_every_keyword_becomes_a_name_that_python_takes(word: str) -> None:
    name = python_identifier(word)
    assert name == f"is_{word.lower()}" or name == word.lower()
    assert name.isidentifier() and not keyword.iskeyword(name)


def test_python_names_have_no_caret() -> None:
    assert python_identifier("a^b") == "a_b"
    assert python_identifier("userId") == "userid"
