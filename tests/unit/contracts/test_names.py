"""ToolBench's name transforms against golden vectors of the reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.toolbench.names import (
    api_identifier,
    change_name,
    function_name,
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
