"""Pass rate and paired difference with 95 % intervals."""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

_Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_RESAMPLES = 10_000


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


def paired_difference_interval(differences: Sequence[int], *, seed: int) -> Interval:
    """95 % percentile bootstrap interval of the mean of paired differences.

    Args:
        differences: Shape (n_instructions,), passed by the method minus passed by the baseline:
            -1, 0 or 1 each; at least one.
        seed: Seed of the resampling; the same input gives the same interval.

    Returns:
        Bounds in [-1, 1].

    Source: Efron & Tibshirani 1993, section 13.3; 10,000 resamples over instructions.
    """
    if not differences:
        raise ValueError("no paired instructions: nothing to resample")
    rng = random.Random(seed)
    n = len(differences)
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(_RESAMPLES))
    return Interval(means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES) - 1])
