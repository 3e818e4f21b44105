"""Unit conversions agree with the definitions of the units."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[3] / "data" / "toolenv" / "tools" / "Measurement"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"Measurement_{tool}_api", TOOLS / tool / "api.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNITS = _load("unit_converter")
EXPRESS = _load("metric_express")
# Exact definitions: NIST Special Publication 811 (2008), appendix B, written as fractions.
INCH_M = Fraction(254, 10000)
POUND_KG = Fraction(45359237, 100000000)
US_GALLON_M3 = 231 * INCH_M**3


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1, "mile", "feet", 5280),
        ("2.5", "miles", "kilometers", Fraction(5, 2) * 63360 * INCH_M / 1000),
        (100, "YARDS", "m", 3600 * INCH_M),
        (30, "cm", "inches", Fraction(30, 100) / INCH_M),
        (7, "millimetres", "metres", Fraction(7, 1000)),
        (3, "nautical miles", "kilometres", Fraction(5556, 1000)),
    ],
)
def test_lengths_follow_the_international_yard(value, source, target, expected) -> None:
    result = UNITS.convert_length(value, source, target)["result"]
    assert result == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (150, "pounds", "kg", 150 * POUND_KG),
        ("1,000", "grams", "ounces", 16 / POUND_KG),
        (11, "stone", "lb", 154),
        (2, "tonnes", "kilograms", 2000),
        (5, "kilos", "milligrams", 5_000_000),
    ],
)
def test_masses_follow_the_international_pound(value, source, target, expected) -> None:
    result = UNITS.convert_mass(value, source, target)["result"]
    assert result == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (10, "gallons", "litres", 10_000 * US_GALLON_M3),
        (1, "gallon", "cups", 16),
        (8, "pints", "quarts", 4),
        (1, "quart", "fl oz", 32),
        (2, "liters", "ml", 2000),
        (1, "cubic metre", "imperial gallons", Fraction(100_000_000, 454_609)),
    ],
)
def test_volumes_follow_the_cubic_inch(value, source, target, expected) -> None:
    result = UNITS.convert_volume(value, source, target)["result"]
    assert result == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (60, "miles per hour", "km/h", 60 * 63360 * INCH_M / 1000),
        (36, "kilometres per hour", "metres per second", 10),
        (50, "knots", "kilometers per hour", Fraction(926, 10)),
        (15, "mph", "feet per second", 22),
    ],
)
def test_speeds_are_lengths_over_times(value, source, target, expected) -> None:
    result = UNITS.convert_speed(value, source, target)["result"]
    assert result == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1, "acre", "square feet", 43560),
        (1, "square mile", "acres", 640),
        (3, "hectares", "square metres", 30_000),
        (5, "acres", "hectares", 5 * 4840 * (36 * INCH_M) ** 2 / 10_000),
        (9, "sq ft", "square yards", 1),
        (2, "km2", "hectares", 200),
    ],
)
def test_areas_are_squared_lengths(value, source, target, expected) -> None:
    result = UNITS.convert_area(value, source, target)["result"]
    assert result == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (100, "Celsius", "Fahrenheit", 212),
        ("32", "fahrenheit", "celsius", 0),
        (-40, "C", "degrees Fahrenheit", -40),
        (0, "Kelvin", "Celsius", -273.15),
        (25, "°C", "K", 298.15),
        (-459.67, "Fahrenheit", "Kelvin", 0),
    ],
)
def test_temperatures_meet_the_fixed_points(value, source, target, expected) -> None:
    assert UNITS.convert_temperature(value, source, target)["result"] == expected


def test_results_name_the_unit_and_are_whole_numbers_when_they_can_be() -> None:
    assert UNITS.convert_length(1, "km", "m") == {"result": 1000, "unit": "metres"}


@pytest.mark.parametrize("kind", ["length", "mass", "volume", "speed", "area", "temperature"])
@pytest.mark.parametrize("value", ["a lot", "nan", "1e300", True, ""])
def test_values_that_are_no_numbers_are_refused(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match="value .* is not a number"):
        getattr(UNITS, f"convert_{kind}")(value, "metres", "metres")


@pytest.mark.parametrize("kind", ["length", "mass", "volume", "speed", "area", "temperature"])
def test_unknown_units_are_named_with_known_ones(kind: str) -> None:
    with pytest.raises(ValueError, match="unknown (unit|scale) 'parsecs'; use .*") as caught:
        getattr(UNITS, f"convert_{kind}")(1, "parsecs", "parsecs")
    assert len(str(caught.value)) <= 100


def test_amounts_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="-5 must be 0 or more"):
        UNITS.convert_mass(-5, "kg", "g")
    with pytest.raises(ValueError, match="below absolute zero"):
        UNITS.convert_temperature(-300, "Celsius", "Kelvin")


def test_the_metric_service_agrees_with_the_general_one_on_metric_units() -> None:
    result = EXPRESS.convert_distance("12.5", "Kilometers", "cm")
    assert result == {"result": 1_250_000, "unit": "centimetres"}
    assert result == UNITS.convert_length("12.5", "Kilometers", "cm")


def test_the_metric_service_lacks_other_units() -> None:
    with pytest.raises(LookupError, match="no metric unit 'miles'"):
        EXPRESS.convert_distance(5, "kilometres", "miles")
    with pytest.raises(ValueError, match="must be 0 or more"):
        EXPRESS.convert_distance(-1, "m", "km")


def test_the_weight_service_is_closed() -> None:
    with pytest.raises(RuntimeError, match="service closed since"):
        EXPRESS.convert_weight(5, "kilograms", "pounds")
