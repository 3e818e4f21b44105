"""Recipe and sports tools against figures worked out by hand or published records."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).resolve().parents[3] / "data" / "toolenv" / "tools"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(tool.replace("/", "_"), _TOOLS / tool / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = _load("Food/recipe_scaler")
sports = _load("Sports/sports_calculator")


@pytest.mark.parametrize(
    ("amount", "before", "after"), [(250, 4, 6), ("300", "8", "3"), (125.5, 3, 7)]
)
def test_amounts_scale_in_proportion(
    amount: float | str, before: int | str, after: int | str
) -> None:
    expected = Fraction(str(amount)) * Fraction(after) / Fraction(before)
    scaled = recipe.scale_amount(amount, before, after)["scaled_amount"]
    assert scaled == pytest.approx(float(expected), rel=1e-5)


def test_cups_follow_the_us_gallon() -> None:
    # a US gallon is 231 cubic inches of 16.387064 ml and holds 16 cups
    expected = 231 * 2.54**3 / 16 * 3
    assert recipe.cups_to_millilitres("3")["millilitres"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("celsius", "fahrenheit"), [(100, 212), ("180", 356), (0, 32)])
def test_oven_temperatures_match_the_fixed_points(celsius: float | str, fahrenheit: int) -> None:
    assert recipe.oven_fahrenheit(celsius) == {"fahrenheit": fahrenheit}


def test_pace_of_a_known_marathon() -> None:
    # Kipchoge, Vienna 2019: 42.195 km in 1:59:40, reported as 2:50 a kilometre
    pace = sports.running_pace(42.195, 119 + 40 / 60)["minutes_per_km"]
    assert pace == pytest.approx(2 + 50 / 60, abs=0.01)


def test_batting_average_of_a_known_season() -> None:
    # Ted Williams 1941: 185 hits in 456 at bats, .406
    assert sports.batting_average("185", "456") == {"average": 0.406}


def test_goal_difference_of_a_known_season() -> None:
    # Arsenal 2003-04: 73 scored, 26 conceded, difference 47
    assert sports.goal_difference(73, 26) == {"difference": 47}
    assert sports.goal_difference("26", "73") == {"difference": -47}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipe.scale_amount(250, 0, 6), "from_servings must be a number from 1 to 1000"),
        (lambda: recipe.cups_to_millilitres("many"), "cups must be a number from 0 to 1000"),
        (lambda: recipe.oven_fahrenheit(900), "celsius must be a number from 0 to 600, not '900'"),
        (lambda: sports.running_pace(0, 30), "distance_km must be a number"),
        (lambda: sports.batting_average(12, 10), "hits must be a number from 0 to 10, not '12'"),
        (lambda: sports.goal_difference("x", 1), "scored must be a number"),
    ],
)
def test_impossible_figures_are_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
