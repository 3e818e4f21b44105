"""Intervals against published values, and their symmetries."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.metrics.intervals import mean_interval, wilson_interval


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombe_1998_table_1(
    passed: int, n: int, low: float, high: float
) -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 857-872, method 3 (score, uncorrected)."""
    interval = wilson_interval(passed, n)
    assert interval == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_symmetric_and_holds_the_rate(case: tuple[int, int]) -> None:
    passed, n = case
    low, high = wilson_interval(passed, n)
    mirrored = wilson_interval(n - passed, n)
    assert 0.0 <= low <= passed / n <= high <= 1.0
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("passed", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_proportion_is_refused(passed: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"passed={passed} of n={n}"):
        wilson_interval(passed, n)


def test_the_bootstrap_is_seeded() -> None:
    pairs = [1, 0, 0, -1, 1, 1, 0, 0, 1, 0] * 4
    assert mean_interval(pairs, seed=7) == mean_interval(pairs, seed=7)


def test_the_bootstrap_agrees_with_the_normal_interval_of_a_large_sample() -> None:
    pairs = [1] * 120 + [0] * 240 + [-1] * 40  # mean 0.2, standard error 0.0300
    low, high = mean_interval(pairs, seed=42)
    assert (low, high) == pytest.approx((0.1412, 0.2588), abs=0.006)


def test_swapping_the_methods_mirrors_the_interval() -> None:
    pairs = [1] * 30 + [0] * 50 + [-1] * 10
    low, high = mean_interval(pairs, seed=42)
    mirrored = mean_interval([-pair for pair in pairs], seed=42)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((low, high), abs=0.012)


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([-1, 0, 1]), st.integers(1, 40))
def test_pairs_without_variance_give_a_point(value: int, n: int) -> None:
    assert mean_interval([value] * n, seed=0) == (value, value)


def test_without_values_there_is_nothing_to_resample() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([], seed=0)
