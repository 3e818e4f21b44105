"""Kitchen arithmetic: servings, cups and oven temperatures."""

import math

_ML_PER_CUP = 236.5882365  # US customary cup, half a US liquid pint (NIST Handbook 44, appendix C)


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


def scale_amount(
    amount: float | str, from_servings: float | str, to_servings: float | str
) -> dict[str, int | float]:
    """Amount of an ingredient for another number of servings."""
    quantity = _number("amount", amount, 0, 1e6)
    before = _number("from_servings", from_servings, 1, 1000)
    after = _number("to_servings", to_servings, 1, 1000)
    return {"scaled_amount": _short(quantity * after / before)}


def cups_to_millilitres(cups: float | str) -> dict[str, int | float]:
    """Millilitres in US cups."""
    return {"millilitres": _short(_number("cups", cups, 0, 1000) * _ML_PER_CUP)}


def oven_fahrenheit(celsius: float | str) -> dict[str, int | float]:
    """Degrees Fahrenheit of an oven temperature."""
    return {"fahrenheit": _short(_number("celsius", celsius, 0, 600) * 9 / 5 + 32)}
