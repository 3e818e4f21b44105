"""Growth of savings under compound and simple interest."""

import math

_PRINCIPAL_MAXIMUM = 1e12
_RATE_MAXIMUM_PERCENT = 100.0
_YEARS_MAXIMUM = 200.0
_COMPOUNDINGS_MAXIMUM = 366.0
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


def _positive(value: object, name: str, limit: float) -> float:
    """The number in `value` when it lies above 0 and at most at `limit`; a % sign may follow it."""
    number = _number(str(value).rstrip(" %"), name)
    if not 0 < number <= limit:
        raise ValueError(f"{name} {_short(number)} must be above 0 and at most {_short(limit)}")
    return number


def _money(amount: float) -> float:
    return _short(round(amount, 2))


def compound_interest(
    principal: object, annual_rate: object, years: object, compounds_per_year: object = 1
) -> dict[str, object]:
    """Final amount and interest earned; `annual_rate` in percent."""
    start = _positive(principal, "principal", _PRINCIPAL_MAXIMUM)
    rate = _positive(annual_rate, "annual_rate", _RATE_MAXIMUM_PERCENT) / 100
    periods = _positive(compounds_per_year, "compounds_per_year", _COMPOUNDINGS_MAXIMUM)
    time = _positive(years, "years", _YEARS_MAXIMUM)
    final = start * (1 + rate / periods) ** (periods * time)
    return {"final_amount": _money(final), "interest": _money(final - start)}


def simple_interest(principal: object, annual_rate: object, years: object) -> dict[str, object]:
    """Interest earned without compounding, and the final amount; `annual_rate` in percent."""
    start = _positive(principal, "principal", _PRINCIPAL_MAXIMUM)
    rate = _positive(annual_rate, "annual_rate", _RATE_MAXIMUM_PERCENT) / 100
    interest = start * rate * _positive(years, "years", _YEARS_MAXIMUM)
    return {"interest": _money(interest), "final_amount": _money(start + interest)}


def doubling_time(annual_rate: object) -> dict[str, object]:
    """Years until savings double at a yearly compounded rate in percent."""
    rate = _positive(annual_rate, "annual_rate", _RATE_MAXIMUM_PERCENT) / 100
    return {"years": _short(math.log(2) / math.log1p(rate))}
