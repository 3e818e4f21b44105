"""A second converter that knows metric distances only and whose weight service has closed."""

import math
from typing import NoReturn

_METRES = {
    "metres": 1.0,
    "kilometres": 1000.0,
    "centimetres": 0.01,
    "millimetres": 0.001,
}
_SYMBOLS = {"m": "metres", "km": "kilometres", "cm": "centimetres", "mm": "millimetres"}
_NUMBER_MAXIMUM = 1e15  # whole numbers up to here are exact as floats


def _number(value: object, name: str) -> float:
    """The number in `value`, which may be text such as "1,200"."""
    try:
        number = float(str(value).replace(",", "").strip())
    except ValueError:
        number = math.nan
    if not abs(number) <= _NUMBER_MAXIMUM:  # also refuses nan
        raise ValueError(f"{name} {str(value)[:30]!r} is not a number up to 1e15, for example 12.5")
    return number


def _short(number: float) -> float:
    """`number` to 6 significant digits, as an int when it is a whole number."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) <= _NUMBER_MAXIMUM else rounded


def _unit(unit: object) -> str:
    text = str(unit).lower().replace("meter", "metre").strip(" .")
    text = _SYMBOLS.get(text, text)
    for name in (text, text + "s"):
        if name in _METRES:
            return name
    raise LookupError(f"no metric unit {str(unit)[:20]!r}; known: {', '.join(_METRES)}")


def convert_distance(value: object, from_unit: object, to_unit: object) -> dict[str, object]:
    """`value` in another metric unit of distance; other units raise LookupError."""
    amount = _number(value, "value")
    if amount < 0:
        raise ValueError(f"value {_short(amount)} must be 0 or more")
    source, target = _unit(from_unit), _unit(to_unit)
    return {"result": _short(amount * _METRES[source] / _METRES[target]), "unit": target}


def convert_weight(value: object, from_unit: object, to_unit: object) -> NoReturn:
    """Always raises: the weight service no longer exists."""
    raise RuntimeError("service closed since 2023-06-30")
