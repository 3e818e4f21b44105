"""Health formulas against figures worked out by hand from the published formulas."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).resolve().parents[3] / "data" / "toolenv" / "tools" / "Health"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"health_{tool}", _TOOLS / tool / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


health = _load("health_formulas")


def test_body_mass_index_matches_the_who_example() -> None:
    # WHO, "A healthy lifestyle": an adult of 70 kg and 1.75 m has a BMI of 22.9
    assert health.body_mass_index(70, 175) == {"bmi": 22.9}
    assert health.body_mass_index("70.0", "175") == {"bmi": 22.9}


@pytest.mark.parametrize(("age", "beats"), [(20, 200), ("50", 170), (33.5, 186.5)])
def test_maximum_heart_rate_is_220_minus_age(age: float | str, beats: float) -> None:
    assert health.max_heart_rate(age) == {"beats_per_minute": beats}


def test_daily_water_is_35_ml_for_each_kilogram() -> None:
    assert health.daily_water(80) == {"amount": 2.8, "unit": "litres"}  # 80 x 0.035


@pytest.mark.parametrize(
    ("sex", "calories"),
    # 10 x 70 + 6.25 x 180 - 5 x 30 = 1675; +5 for men, -161 for women (Mifflin-St Jeor 1990)
    [("man", 1680), ("Male", 1680), ("woman", 1514), ("female", 1514)],
)
def test_basal_metabolic_rate_matches_mifflin_st_jeor(sex: str, calories: int) -> None:
    assert health.basal_metabolic_rate(70, 180, "30", sex) == {"calories": calories}


@pytest.mark.parametrize(
    ("api", "arguments", "message"),
    [
        ("body_mass_index", (0, 175), "weight_kg must be a number from 1 to 500, not '0'"),
        ("body_mass_index", (70, "tall"), "height_cm must be a number from 30 to 280"),
        ("max_heart_rate", (200,), "age must be a number from 1 to 120"),
        ("daily_water", ("nan",), "weight_kg must be a number"),
        ("basal_metabolic_rate", (70, 180, 30, "robot"), "sex must be man or woman, not 'robot'"),
        ("basal_metabolic_rate", (70, 180, "inf", "man"), "age must be a number"),
    ],
)
def test_impossible_figures_are_refused(
    api: str, arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(health, api)(*arguments)
