"""Dates and clocks agree with other calendar formulas and with published time zones."""

import calendar
import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[3] / "data" / "toolenv" / "tools" / "Time"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"Time_{tool}_api", TOOLS / tool / "api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CALENDAR = _load("calendar_tools")
CLOCK = _load("world_clock")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _julian_day(year: int, month: int, day: int) -> int:
    """Julian day number: Fliegel and Van Flandern, Communications of the ACM 11 (1968) 657."""
    shift = -((14 - month) // 12)
    return (
        day
        - 32075
        + 1461 * (year + 4800 + shift) // 4
        + 367 * (month - 2 - shift * 12) // 12
        - 3 * ((year + 4900 + shift) // 100) // 4
    )


def _random_dates(seed: int, count: int) -> list[tuple[int, int, int]]:
    rng = random.Random(seed)
    return [(rng.randint(1600, 2400), rng.randint(1, 12), rng.randint(1, 28)) for _ in range(count)]


def _iso(date: tuple[int, int, int]) -> str:
    return "{:04d}-{:02d}-{:02d}".format(*date)


@pytest.mark.parametrize("date", _random_dates(1, 20), ids=_iso)
def test_weekdays_follow_the_julian_day(date) -> None:
    # Julian day 0 was a Monday.
    assert CALENDAR.day_of_week(_iso(date)) == {"day": DAYS[_julian_day(*date) % 7]}


def test_the_first_moon_landing_was_on_a_sunday() -> None:
    assert CALENDAR.day_of_week("1969-07-20") == {"day": "Sunday"}


@pytest.mark.parametrize("seed", range(10))
def test_differences_follow_the_julian_day(seed: int) -> None:
    first, second = _random_dates(seed, 2)
    expected = abs(_julian_day(*first) - _julian_day(*second))
    assert CALENDAR.days_between(_iso(first), _iso(second)) == {"days": expected}
    assert CALENDAR.days_between(_iso(second), _iso(first)) == {"days": expected}


@pytest.mark.parametrize(
    ("date", "days", "expected"),
    [
        ("2024-02-28", 1, "2024-02-29"),
        ("2023-02-28", "1", "2023-03-01"),
        ("2024-12-31", "1.0", "2025-01-01"),
        ("2024-03-01", -1, "2024-02-29"),
        ("2000-01-01", 366, "2001-01-01"),
    ],
)
def test_days_are_added_across_months_and_years(date, days, expected) -> None:
    assert CALENDAR.add_days(date, days) == {"date": expected}


@pytest.mark.parametrize("year", [1600, 1700, 1900, 1999, 2000, 2023, "2024", 2100])
def test_leap_years_have_366_days(year) -> None:
    days = sum(calendar.monthrange(int(year), month)[1] for month in range(1, 13))
    answer = {365: "no", 366: "yes"}[days]
    assert CALENDAR.is_leap_year(year) == {"leap_year": answer, "days": days}


@pytest.mark.parametrize(
    ("date", "week", "year"),
    # Examples of ISO 8601 around New Year; week 1 holds the first Thursday.
    [
        ("2005-01-01", 53, 2004),
        ("2007-01-01", 1, 2007),
        ("2008-12-29", 1, 2009),
        ("2010-01-03", 53, 2009),
        ("2024-03-15", 11, 2024),
    ],
)
def test_week_numbers_follow_iso_8601(date, week, year) -> None:
    assert CALENDAR.week_number(date) == {"week": week, "year": year}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (CALENDAR.day_of_week, ("tomorrow",)),
        (CALENDAR.day_of_week, ("2023-02-29",)),
        (CALENDAR.days_between, ("2024-01-01", "31/12/2024")),
        (CALENDAR.add_days, ("2024-13-01", 5)),
        (CALENDAR.week_number, ("",)),
        (CLOCK.city_utc_offset, ("Paris", "soon")),
        (CLOCK.convert_city_time, ("12:00", "2024", "Paris", "Rome")),
    ],
)
def test_bad_dates_are_refused_with_an_example(function, arguments) -> None:
    with pytest.raises(ValueError, match="is not a date such as 2024-03-15") as caught:
        function(*arguments)
    assert len(str(caught.value)) <= 100


def test_counts_and_years_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="'1.5' is not a whole number"):
        CALENDAR.add_days("2024-01-01", "1.5")
    with pytest.raises(ValueError, match="is more than 1000000"):
        CALENDAR.add_days("2024-01-01", 10**7)
    with pytest.raises(ValueError, match="leave the years"):
        CALENDAR.add_days("9999-12-31", 1)
    with pytest.raises(ValueError, match="year '0' must lie between"):
        CALENDAR.is_leap_year(0)


@pytest.mark.parametrize(
    ("city", "date", "offset", "hours"),
    # Standard and summer offsets as published by the national time laws.
    [
        ("Tokyo", "2024-07-01", "+09:00", 9),
        ("kathmandu", "2024-01-01", "+05:45", 5.75),
        ("New York", "2024-01-15", "-05:00", -5),
        ("NEW YORK", "2024-07-15", "-04:00", -4),
        ("New Delhi", "2024-07-15", "+05:30", 5.5),
        ("London", "2024-07-15", "+01:00", 1),
        ("Reykjavik", "2024-07-15", "+00:00", 0),
        ("Sydney", "2024-01-15", "+11:00", 11),
    ],
)
def test_offsets_follow_the_time_laws(city, date, offset, hours) -> None:
    assert CLOCK.city_utc_offset(city, date) == {"utc_offset": offset, "hours": hours}


@pytest.mark.parametrize(
    ("arguments", "time", "date"),
    [
        (("12:00", "2024-01-15", "London", "Tokyo"), "21:00", "2024-01-15"),
        (("22:30", "2024-01-15", "Los Angeles", "Berlin"), "07:30", "2024-01-16"),
        (("9:15", "2024-07-15", "Mumbai", "Chicago"), "22:45", "2024-07-14"),
        (("00:00", "2024-03-15", "New York", "Paris"), "05:00", "2024-03-15"),
    ],
)
def test_local_times_differ_by_the_offsets(arguments, time, date) -> None:
    assert CLOCK.convert_city_time(*arguments) == {"time": time, "date": date}


def test_time_zones_have_their_database_names() -> None:
    assert CLOCK.city_time_zone("buenos  aires") == {"time_zone": "America/Argentina/Buenos_Aires"}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (CLOCK.city_time_zone, ("Atlantis",)),
        (CLOCK.city_utc_offset, ("Atlantis", "2024-01-01")),
        (CLOCK.convert_city_time, ("12:00", "2024-01-01", "Paris", "Atlantis")),
    ],
)
def test_unknown_cities_are_refused(function, arguments) -> None:
    with pytest.raises(LookupError, match="'Atlantis' is not among the 152 known cities"):
        function(*arguments)


@pytest.mark.parametrize("time", ["noon", "25:00", "12:60", "12:00:00", ""])
def test_bad_times_are_refused(time: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as 14:30"):
        CLOCK.convert_city_time(time, "2024-01-01", "Paris", "Rome")
