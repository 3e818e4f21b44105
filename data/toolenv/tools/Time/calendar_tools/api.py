"""Calculations with dates of the Gregorian calendar, years 1 to 9999."""

import datetime as dt

_DAYS_MAXIMUM = 1_000_000
_DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _date(value: object, name: str) -> dt.date:
    try:
        return dt.date.fromisoformat(str(value).strip())
    except ValueError:
        message = f"{name} {str(value)[:30]!r} is not a date such as 2024-03-15"
        raise ValueError(message) from None


def _integer(value: object, name: str) -> int:
    """The whole number in `value`, which may be text such as "5" or "5.0"."""
    try:
        number = float(str(value).replace(",", "").strip())
    except ValueError:
        number = 0.5
    if not number.is_integer():
        raise ValueError(f"{name} {str(value)[:40]!r} is not a whole number")
    return int(number)


def day_of_week(date: object) -> dict[str, object]:
    """English name of the weekday of an ISO date."""
    return {"day": _DAY_NAMES[_date(date, "date").weekday()]}


def days_between(start_date: object, end_date: object) -> dict[str, object]:
    """Days from one date to the other, counted without a sign."""
    return {"days": abs((_date(end_date, "end_date") - _date(start_date, "start_date")).days)}


def add_days(date: object, days: object) -> dict[str, object]:
    """Date that lies `days` later, or earlier when `days` is negative."""
    start, count = _date(date, "date"), _integer(days, "days")
    if abs(count) > _DAYS_MAXIMUM:
        raise ValueError(f"days {str(days)[:20]!r} is more than {_DAYS_MAXIMUM}")
    try:
        return {"date": (start + dt.timedelta(days=count)).isoformat()}
    except OverflowError:
        message = f"{start} and {count} days leave the years 1 to 9999"
        raise ValueError(message) from None


def is_leap_year(year: object) -> dict[str, object]:
    """Whether a Gregorian year is a leap year, and how many days it has."""
    number = _integer(year, "year")
    if not 1 <= number <= 9999:
        raise ValueError(f"year {str(year)[:20]!r} must lie between 1 and 9999")
    leap = number % 4 == 0 and (number % 100 != 0 or number % 400 == 0)
    return {"leap_year": "yes" if leap else "no", "days": 366 if leap else 365}


def week_number(date: object) -> dict[str, object]:
    """ISO 8601 week number of a date and the year that week belongs to."""
    year, week, _ = _date(date, "date").isocalendar()
    return {"week": week, "year": year}
