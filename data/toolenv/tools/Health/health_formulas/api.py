"""Common formulas about the human body; rough estimates, no medical advice."""

import math

_WATER_LITRES_PER_KG = 0.035  # the usual rule of thumb of 35 ml for each kilogram a day
_MAN = frozenset({"man", "male", "m", "men", "boy"})
_WOMAN = frozenset({"woman", "female", "f", "w", "women", "girl"})


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


def body_mass_index(weight_kg: float | str, height_cm: float | str) -> dict[str, float]:
    """Weight in kilograms divided by the square of the height in metres, one decimal (Quetelet)."""
    weight = _number("weight_kg", weight_kg, 1, 500)
    height_m = _number("height_cm", height_cm, 30, 280) / 100
    return {"bmi": round(weight / height_m**2, 1)}


def max_heart_rate(age: float | str) -> dict[str, int | float]:
    """Beats per minute: 220 minus the age in years (Fox, Naughton and Haskell 1971)."""
    return {"beats_per_minute": _short(220 - _number("age", age, 1, 120))}


def daily_water(weight_kg: float | str) -> dict[str, float | str]:
    """Litres of water a day, 35 ml for each kilogram, two decimals."""
    litres = _number("weight_kg", weight_kg, 1, 500) * _WATER_LITRES_PER_KG
    return {"amount": round(litres, 2), "unit": "litres"}


def basal_metabolic_rate(
    weight_kg: float | str, height_cm: float | str, age: float | str, sex: str
) -> dict[str, int]:
    """Kilocalories a day at rest (Mifflin and St Jeor 1990), a whole number."""
    name = str(sex).strip().lower()
    if name not in _MAN | _WOMAN:
        raise ValueError(f"sex must be man or woman, not {str(sex)[:20]!r}")
    weight = _number("weight_kg", weight_kg, 1, 500)
    height = _number("height_cm", height_cm, 30, 280)
    offset = 5 if name in _MAN else -161
    years = _number("age", age, 1, 120)
    return {"calories": round(10 * weight + 6.25 * height - 5 * years + offset)}
