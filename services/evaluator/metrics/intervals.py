"""Pass rates and means with 95 % intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_RESAMPLES = 10_000
_RESAMPLES_AT_ONCE = 500  # 10,000 of 1,000 samples would take 80 MB


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def wilson_interval(passed: int, n: int) -> Interval:
    """95 % score interval of a proportion.

    Args:
        passed: Successes, 0 <= passed <= n.
        n: Trials, >= 1.

    Returns:
        Bounds in [0, 1].

    Source: Wilson 1927; formula as in Brown, Cai, DasGupta 2001, equation 4.
    """
    if n < 1 or not 0 <= passed <= n:
        raise ValueError(f"passed={passed} of n={n} is not a proportion")
    rate = passed / n
    spread = _Z_95 * math.sqrt(rate * (1 - rate) / n + _Z_95**2 / (4 * n**2))
    centre = rate + _Z_95**2 / (2 * n)
    scale = 1 + _Z_95**2 / n
    # The formula gives 0 and 1 exactly at the ends; rounding does not.
    low = (centre - spread) / scale if passed else 0.0
    high = (centre + spread) / scale if passed < n else 1.0
    return Interval(low, high)


def mean_interval(values: Sequence[float], *, seed: int) -> Interval:
    """95 % percentile bootstrap interval of a mean.

    Args:
        values: Shape (n_samples,), at least one; of paired differences, -1, 0 or 1 each.
        seed: Seed of the resampling; the same input gives the same interval.

    Returns:
        Bounds within those of the values.

    Source: Efron & Tibshirani 1993, section 13.3; 10,000 resamples.
    """
    import numpy as np  # a tenth of a second, which commands that make no report need not wait

    if not values:
        raise ValueError("no values: nothing to resample")
    rng = np.random.default_rng(seed)
    known = np.asarray(values, dtype=np.float64)
    means = np.empty(_RESAMPLES)
    for start in range(0, _RESAMPLES, _RESAMPLES_AT_ONCE):
        chosen = rng.integers(0, known.size, size=(_RESAMPLES_AT_ONCE, known.size))
        means[start : start + _RESAMPLES_AT_ONCE] = known[chosen].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(low), float(high))
