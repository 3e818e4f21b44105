"""Figures of sports: pace, batting average, goal difference."""

import math


def _number(name: str, value: float | str, low: float, high: float) -> float:
    """The finite number in `value`; ValueError names the parameter and its limits."""
    try:
        number = float(str(value).replace(",", "").strip())
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise ValueError(
            f"{name} must be a number from {low:g} to {high:g}, not {str(value)[:20]!r}"
        )
    return number


def _short(value: float) -> int | float:
    """`value` to six significant digits, as an int when it is whole."""
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded


def running_pace(distance_km: float | str, minutes: float | str) -> dict[str, int | float]:
    """Decimal minutes for one kilometre, two decimals."""
    distance = _number("distance_km", distance_km, 0.01, 10_000)
    return {"minutes_per_km": _short(round(_number("minutes", minutes, 0.01, 1e6) / distance, 2))}


def batting_average(hits: float | str, at_bats: float | str) -> dict[str, int | float]:
    """Hits divided by at bats, three decimals as baseball writes it."""
    tries = _number("at_bats", at_bats, 1, 1e5)
    return {"average": _short(round(_number("hits", hits, 0, tries) / tries, 3))}


def goal_difference(scored: float | str, conceded: float | str) -> dict[str, int | float]:
    """Goals scored minus goals conceded."""
    return {
        "difference": _short(
            _number("scored", scored, 0, 1e5) - _number("conceded", conceded, 0, 1e5)
        )
    }
