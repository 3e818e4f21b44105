import pytest

from services.contracts.apis import ApiRef
from services.retriever.fusion import Fusion, fuse
from services.retriever.index.base import ChannelHits, Hit


def ref(name: str) -> ApiRef:
    return ApiRef(category="C", tool="t", api=name)


def hits(*pairs: tuple[str, float]) -> tuple[Hit, ...]:
    return tuple(Hit(ref(name), score) for name, score in pairs)


EQUAL = Fusion(k=60, sparse_weight=0.5)


def test_two_rankings_are_joined_as_computed_by_hand() -> None:
    found = ChannelHits(dense=hits(("a", 0.9), ("b", 0.8)), sparse=hits(("b", 7.0), ("c", 3.0)))
    result = fuse(found, fusion=EQUAL, top_k=3, limit=10)
    assert [hit.api.api for hit in result] == ["b", "a", "c"]
    assert [hit.score for hit in result] == pytest.approx([0.5 / 62 + 0.5 / 61, 0.5 / 61, 0.5 / 62])
    assert [hit.rank for hit in result] == [1, 2, 3]


def test_scores_of_the_channels_are_kept() -> None:
    found = ChannelHits(dense=hits(("a", 0.9)), sparse=hits(("a", 7.0), ("c", 3.0)))
    result = fuse(found, fusion=EQUAL, top_k=2, limit=10)
    assert [hit.score_parts for hit in result] == [{"dense": 0.9, "sparse": 7.0}, {"sparse": 3.0}]


def test_weight_one_leaves_the_lexical_order() -> None:
    found = ChannelHits(dense=hits(("a", 0.9), ("b", 0.8)), sparse=hits(("b", 7.0), ("a", 3.0)))
    result = fuse(found, fusion=Fusion(k=5, sparse_weight=1.0), top_k=2, limit=10)
    assert [hit.api.api for hit in result] == ["b", "a"]


def test_an_api_found_twice_by_a_channel_counts_once() -> None:
    found = ChannelHits(dense=hits(("a", 0.9), ("a", 0.8), ("b", 0.7)), sparse=())
    result = fuse(found, fusion=EQUAL, top_k=5, limit=10)
    assert [hit.api.api for hit in result] == ["a", "b"]
    assert result[1].score == pytest.approx(0.5 / 62)


def test_equal_scores_are_ordered_by_address_however_the_store_ordered_them() -> None:
    one = ChannelHits(dense=hits(("b", 0.5), ("a", 0.5)), sparse=())
    other = ChannelHits(dense=hits(("a", 0.5), ("b", 0.5)), sparse=())
    assert fuse(one, fusion=EQUAL, top_k=2, limit=9) == fuse(other, fusion=EQUAL, top_k=2, limit=9)


def test_a_group_of_equals_that_the_limit_may_have_cut_is_left_out() -> None:
    found = ChannelHits(dense=(), sparse=hits(("b", 7.0), ("c", 0.1), ("d", 0.1)))
    assert [hit.api.api for hit in fuse(found, fusion=EQUAL, top_k=1, limit=3)] == ["b"]


def test_the_cut_group_stays_where_top_k_needs_it_or_the_list_was_not_cut() -> None:
    found = ChannelHits(dense=(), sparse=hits(("b", 7.0), ("c", 0.1), ("d", 0.1)))
    assert len(fuse(found, fusion=EQUAL, top_k=3, limit=3)) == 3
    assert len(fuse(found, fusion=EQUAL, top_k=2, limit=4)) == 2


def test_no_more_than_top_k_are_returned() -> None:
    found = ChannelHits(dense=hits(*((f"x{i}", 1.0 - i / 100) for i in range(50))), sparse=())
    assert len(fuse(found, fusion=EQUAL, top_k=7, limit=50)) == 7
