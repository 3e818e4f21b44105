"""Loans repaid in equal monthly payments at a fixed yearly rate (annuity loans)."""

import math

_PRINCIPAL_MAXIMUM = 1e9
_RATE_MAXIMUM_PERCENT = 100.0
_YEARS_MAXIMUM = 100.0
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


def _payment(principal: object, annual_rate: object, years: object) -> tuple[float, float, int]:
    """Loan, payment per month and number of payments."""
    loan = _positive(principal, "principal", _PRINCIPAL_MAXIMUM)
    rate = _positive(annual_rate, "annual_rate", _RATE_MAXIMUM_PERCENT) / 1200
    months = round(_positive(years, "years", _YEARS_MAXIMUM) * 12)
    if months < 1:
        raise ValueError(f"years {str(years)[:20]!r} is shorter than one month")
    return loan, loan * rate / -math.expm1(-months * math.log1p(rate)), months


def monthly_payment(principal: object, annual_rate: object, years: object) -> dict[str, object]:
    """Equal payment per month that repays the loan; `annual_rate` in percent."""
    _, payment, months = _payment(principal, annual_rate, years)
    return {"monthly_payment": _money(payment), "months": months}


def total_interest(principal: object, annual_rate: object, years: object) -> dict[str, object]:
    """Interest paid over the whole loan; `annual_rate` in percent."""
    loan, payment, months = _payment(principal, annual_rate, years)
    return {"total_interest": _money(payment * months - loan), "months": months}
