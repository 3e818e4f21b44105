"""Conversions between everyday units of length, mass, temperature, volume, speed and area.

Factors are exact by definition (international yard and pound of 1959, US gallon of 231 cubic
inches, imperial gallon of 4.54609 litres); results carry 6 significant digits.
"""

import math

_LENGTH_IN_METRES = {
    "metres,metre,m": 1.0,
    "kilometres,kilometre,km,kms": 1000.0,
    "centimetres,centimetre,cm": 0.01,
    "millimetres,millimetre,mm": 0.001,
    "miles,mile,mi": 1609.344,
    "yards,yard,yd,yds": 0.9144,
    "feet,foot,ft": 0.3048,
    "inches,inch,in": 0.0254,
    "nautical miles,nautical mile,nmi": 1852.0,
}
_MASS_IN_GRAMS = {
    "grams,gram,g": 1.0,
    "kilograms,kilogram,kilos,kilo,kg,kgs": 1000.0,
    "milligrams,milligram,mg": 0.001,
    "tonnes,tonne,metric tons,metric ton,t": 1_000_000.0,
    "pounds,pound,lb,lbs": 453.59237,
    "ounces,ounce,oz": 28.349523125,
    "stones,stone,st": 6350.29318,
}
_VOLUME_IN_LITRES = {
    "litres,litre,l": 1.0,
    "millilitres,millilitre,ml": 0.001,
    "cubic metres,cubic metre,m3,m³": 1000.0,
    "gallons,gallon,gal,us gallons,us gallon": 3.785411784,
    "imperial gallons,imperial gallon,uk gallons,uk gallon": 4.54609,
    "quarts,quart,qt": 0.946352946,
    "pints,pint,pt": 0.473176473,
    "cups,cup": 0.2365882365,
    "fluid ounces,fluid ounce,fl oz": 0.0295735295625,
}
_SPEED_IN_METRES_PER_SECOND = {
    "metres per second,metre per second,m/s,mps": 1.0,
    "kilometres per hour,kilometre per hour,km/h,kph,kmh": 1 / 3.6,
    "miles per hour,mile per hour,mph,mi/h": 0.44704,
    "knots,knot,kn,kt,kts": 1852 / 3600,
    "feet per second,foot per second,ft/s,fps": 0.3048,
}
_AREA_IN_SQUARE_METRES = {
    "square metres,square metre,sq m,m2,m²": 1.0,
    "square kilometres,square kilometre,sq km,km2,km²": 1_000_000.0,
    "hectares,hectare,ha": 10_000.0,
    "acres,acre,ac": 4046.8564224,
    "square feet,square foot,sq ft,ft2,ft²": 0.09290304,
    "square yards,square yard,sq yd,yd2,yd²": 0.83612736,
    "square miles,square mile,sq mi,mi2,mi²": 2_589_988.110336,
}
_ABSOLUTE_ZERO_CELSIUS = -273.15
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


def _spelled(unit: object) -> str:
    """Unit name in lower case, British spelling, without full stops or doubled spaces."""
    text = " ".join(str(unit).lower().replace(".", "").split())
    return text.replace("meter", "metre").replace("liter", "litre")


def _factor(unit: object, table: dict[str, float]) -> tuple[str, float]:
    """Plural name of `unit` and its size in the table's base unit."""
    wanted = _spelled(unit)
    for names, factor in table.items():
        aliases = names.split(",")
        if wanted in aliases:
            return aliases[0], factor
    known = ", ".join(names.split(",")[0] for names in table)
    raise ValueError(f"unknown unit {str(unit)[:20]!r}; use {known}"[:100])


def _convert(
    value: object, from_unit: object, to_unit: object, table: dict[str, float]
) -> dict[str, object]:
    amount = _number(value, "value")
    if amount < 0:
        raise ValueError(f"value {_short(amount)} must be 0 or more")
    _, source = _factor(from_unit, table)
    unit, target = _factor(to_unit, table)
    return {"result": _short(amount * source / target), "unit": unit}


def convert_length(value: object, from_unit: object, to_unit: object) -> dict[str, object]:
    """`value` in another unit of length."""
    return _convert(value, from_unit, to_unit, _LENGTH_IN_METRES)


def convert_mass(value: object, from_unit: object, to_unit: object) -> dict[str, object]:
    """`value` in another unit of mass."""
    return _convert(value, from_unit, to_unit, _MASS_IN_GRAMS)


def convert_volume(value: object, from_unit: object, to_unit: object) -> dict[str, object]:
    """`value` in another unit of volume; plain gallons, pints and cups are US ones."""
    return _convert(value, from_unit, to_unit, _VOLUME_IN_LITRES)


def convert_speed(value: object, from_unit: object, to_unit: object) -> dict[str, object]:
    """`value` in another unit of speed."""
    return _convert(value, from_unit, to_unit, _SPEED_IN_METRES_PER_SECOND)


def convert_area(value: object, from_unit: object, to_unit: object) -> dict[str, object]:
    """`value` in another unit of area."""
    return _convert(value, from_unit, to_unit, _AREA_IN_SQUARE_METRES)


def _scale(unit: object) -> str:
    """Full name of a temperature scale given as name, symbol or "degrees ..."."""
    wanted = str(unit).lower().replace("degrees", "").replace("degree", "").replace("°", "").strip()
    for name in ("Celsius", "Fahrenheit", "Kelvin"):
        if wanted in (name.lower(), name.lower() + "s", name[0].lower()):
            return name
    raise ValueError(f"unknown scale {str(unit)[:20]!r}; use Celsius, Fahrenheit or Kelvin")


def convert_temperature(value: object, from_unit: object, to_unit: object) -> dict[str, object]:
    """`value` on another temperature scale; refuses values below absolute zero."""
    degrees, source, target = _number(value, "value"), _scale(from_unit), _scale(to_unit)
    celsius = {
        "Celsius": degrees,
        "Fahrenheit": (degrees - 32) * 5 / 9,
        "Kelvin": degrees + _ABSOLUTE_ZERO_CELSIUS,
    }[source]
    if celsius < _ABSOLUTE_ZERO_CELSIUS - 1e-9:  # slack for the rounding of -459.67 Fahrenheit
        raise ValueError(f"value {_short(degrees)} {source} is below absolute zero")
    result = {
        "Celsius": celsius,
        "Fahrenheit": celsius * 9 / 5 + 32,
        "Kelvin": celsius - _ABSOLUTE_ZERO_CELSIUS,
    }[target]
    return {"result": _short(round(result, 9)), "unit": target}
