import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.lexical import (
    analyse,
    average_length,
    document_terms,
    query_terms,
    stem,
    term_id,
)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("getUserID", ["user", "id"]),
        ("HTTPServer_error-code", ["http", "server", "error", "code"]),
        ("Please give me the currencies!", ["currenci"]),
        ("Ｆｕｌｌ width ①", ["full", "width", "1"]),
        ("天气 API", ["天气", "api"]),
        ("a the of", []),
        ("x" * 65, []),
        ("", []),
    ],
)
def test_analyser_splits_folds_and_drops(text: str, terms: list[str]) -> None:
    assert analyse(text) == terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("movie", "movies"),
        ("city", "cities"),
        ("box", "boxes"),
        ("price", "prices"),
        ("address", "addresses"),
        ("track", "tracking"),
        ("convert", "converted"),
        ("cache", "caching"),
        ("plan", "planning"),
    ],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize("word", ["news", "status", "bus", "glass", "ring", "red", "c3po", "größe"])
def test_words_that_only_look_inflected_stay(word: str) -> None:
    assert stem(word) == word


def test_term_ids_are_the_same_everywhere() -> None:
    by_coreutils = [0x1D8D369B, 0x79634AE6]  # `printf weather | b2sum -l 32`, then `city`
    assert [term_id("weather"), term_id("city")] == by_coreutils


def test_term_frequency_saturates_as_bm25_does() -> None:
    terms = document_terms(["a", "a", "b"], average_terms=6.0)
    norm = 1.2 * (1 - 0.75 + 0.75 * 3 / 6)
    expected = {term_id("a"): 2 * 2.2 / (2 + norm), term_id("b"): 2.2 / (1 + norm)}
    found = dict(zip(terms.ids, terms.weights, strict=True))
    assert found.keys() == expected.keys()
    assert all(math.isclose(found[term], weight) for term, weight in expected.items())


def test_a_query_counts_each_term_once() -> None:
    terms = query_terms("rates rate Rating of cities")
    assert set(terms.weights) == {1.0}
    assert set(terms.ids) == {term_id(stem(word)) for word in ("rate", "rating", "cities")}


def test_an_empty_collection_has_an_average_that_can_be_divided_by() -> None:
    assert average_length([]) == average_length([[]]) == 1.0


@given(st.text(max_size=300))
def test_any_text_gives_a_valid_sparse_vector(text: str) -> None:
    terms = document_terms(analyse(text), average_terms=10.0)
    assert list(terms.ids) == sorted(set(terms.ids))
    assert all(0 <= identity < 2**32 for identity in terms.ids)
    assert all(weight > 0 for weight in terms.weights)
