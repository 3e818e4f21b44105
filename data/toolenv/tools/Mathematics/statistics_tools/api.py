"""Descriptive statistics of a short list of numbers."""

import math
import re

_COUNT_MAXIMUM = 1000
_NUMBER_MAXIMUM = 1e15  # keeps sums of squares finite and whole numbers exact


def _short(number: float) -> float:
    """`number` to 6 significant digits, as an int when it is a whole number."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) <= _NUMBER_MAXIMUM else rounded


def _numbers(numbers: object, minimum_count: int) -> list[float]:
    """Finite numbers of a list, or of text such as "4, 8, 15" or "[4 8 15]"."""
    text = " ".join(map(str, numbers)) if isinstance(numbers, (list, tuple)) else str(numbers)
    words = re.sub(r"[\[\](),;]|\band\b", " ", text).split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"numbers {text[:40]!r} is not a list such as 4, 8, 15") from None
    if not minimum_count <= len(values) <= _COUNT_MAXIMUM:
        raise ValueError(f"{len(values)} numbers given; {minimum_count} to {_COUNT_MAXIMUM} needed")
    if not all(abs(value) <= _NUMBER_MAXIMUM for value in values):  # also refuses nan
        raise ValueError(f"numbers {text[:40]!r} must lie within 1e15 of 0")
    return values


def mean(numbers: object) -> dict[str, object]:
    """Arithmetic mean and number of values."""
    values = _numbers(numbers, 1)
    return {"mean": _short(math.fsum(values) / len(values)), "count": len(values)}


def median(numbers: object) -> dict[str, object]:
    """Middle value; the mean of the two middle ones for an even count."""
    values = sorted(_numbers(numbers, 1))
    half = len(values) // 2
    middle = values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
    return {"median": _short(middle), "count": len(values)}


def standard_deviation(numbers: object, kind: object = "sample") -> dict[str, object]:
    """Standard deviation of a sample (divisor n - 1) or a whole population (divisor n)."""
    wanted = str(kind).strip().lower()
    if wanted not in ("sample", "population"):
        raise ValueError(f"kind {str(kind)[:20]!r} must be sample or population")
    values = _numbers(numbers, 2)
    centre = math.fsum(values) / len(values)
    squares = math.fsum((value - centre) ** 2 for value in values)
    divisor = len(values) - (1 if wanted == "sample" else 0)
    return {"standard_deviation": _short(math.sqrt(squares / divisor)), "kind": wanted}


def range_of_values(numbers: object) -> dict[str, object]:
    """Difference between the highest and the lowest value, with both."""
    values = _numbers(numbers, 1)
    low, high = min(values), max(values)
    return {"range": _short(high - low), "lowest": _short(low), "highest": _short(high)}
