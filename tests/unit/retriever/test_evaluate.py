import math

import pytest

from services.contracts.apis import ApiRef
from services.retriever.evaluate import ndcg_at_k, recall_at_k

A, B, C, D = (ApiRef(category="C", tool="t", api=name) for name in "abcd")


def test_ndcg_equals_the_value_computed_by_hand() -> None:
    ideal = 1 + 1 / math.log2(3)
    assert ndcg_at_k([C, A, D, B], {A, B}, 5) == pytest.approx(
        (1 / math.log2(3) + 1 / math.log2(5)) / ideal
    )


def test_a_perfect_ranking_scores_one_even_when_more_is_relevant_than_k() -> None:
    assert ndcg_at_k([A, B, C], {A, B, C, D}, 2) == 1.0


def test_ranks_after_the_cut_off_do_not_count() -> None:
    assert ndcg_at_k([C, D, A], {A}, 2) == 0.0
    assert recall_at_k([C, D, A], {A}, 2) == 0.0


def test_recall_is_the_share_found() -> None:
    assert recall_at_k([A, C, B], {A, B, D}, 3) == pytest.approx(2 / 3)
