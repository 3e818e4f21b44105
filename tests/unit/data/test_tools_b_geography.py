"""Geography tools against the tz database's coordinates, another formula and reference works."""

import importlib.resources
import importlib.util
import math
import re
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).resolve().parents[3] / "data" / "toolenv" / "tools" / "Geography"
_TOLERANCE_DEGREES = 0.35  # the tz database rounds to minutes and sometimes names a suburb


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"geography_{tool}", _TOOLS / tool / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


atlas = _load("city_atlas")
lookup = _load("geo_lookup")
facts = _load("country_facts")


def _degrees(text: str) -> float:
    """ISO 6709 text such as +513030 or -0000731 as degrees."""
    sign, digits = text[0], text[1:]
    seconds = int(digits[-2:]) if len(digits) >= 6 else 0
    digits = digits[:-2] if len(digits) >= 6 else digits
    value = int(digits[:-2]) + int(digits[-2:]) / 60 + seconds / 3600
    return -value if sign == "-" else value


def _zone_positions() -> list[tuple[str, float, float]]:
    """City, latitude, longitude of every zone of the tz database that the atlas also lists."""
    table = importlib.resources.files("tzdata").joinpath("zoneinfo", "zone.tab")
    rows = [
        line.split("\t")
        for line in table.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    listed = set(atlas._CITIES)
    found = []
    for _, position, zone, *_ in rows:
        city = zone.rsplit("/", 1)[-1].replace("_", " ")
        latitude, longitude = re.findall(r"[+-]\d+", position)
        found.append((city, _degrees(latitude), _degrees(longitude)))
    return [row for row in found if row[0] in listed]


def _chord_distance_km(first: dict[str, float], second: dict[str, float]) -> float:
    """Distance from the angle between the two position vectors, another formula than the tool's."""

    def vector(place: dict[str, float]) -> tuple[float, float, float]:
        lat, lon = math.radians(place["latitude"]), math.radians(place["longitude"])
        return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)

    cross_dot = sum(a * b for a, b in zip(vector(first), vector(second), strict=True))
    return 6371.0 * math.acos(max(-1.0, min(1.0, cross_dot)))


def test_the_tz_database_covers_many_cities_of_the_atlas() -> None:
    assert len(_zone_positions()) >= 60


@pytest.mark.parametrize(("city", "latitude", "longitude"), _zone_positions())
def test_coordinates_agree_with_the_tz_database(
    city: str, latitude: float, longitude: float
) -> None:
    place = atlas.city_coordinates(city)
    assert place["latitude"] == pytest.approx(latitude, abs=_TOLERANCE_DEGREES)
    assert place["longitude"] == pytest.approx(longitude, abs=_TOLERANCE_DEGREES)


@pytest.mark.parametrize(
    ("first", "second"),
    [("London", "Tokyo"), ("Sydney", "Buenos Aires"), ("Quito", "Nairobi"), ("Oslo", "Cape Town")],
)
def test_distance_agrees_with_the_angle_between_position_vectors(first: str, second: str) -> None:
    expected = _chord_distance_km(atlas.city_coordinates(first), atlas.city_coordinates(second))
    distance = atlas.distance_between_cities(first, second)["distance"]
    assert distance == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize(
    ("first", "second", "kilometres"),
    # great-circle figures of common air-distance tables
    [("London", "Paris", 344), ("New York", "Los Angeles", 3936), ("Paris", "Berlin", 878)],
)
def test_distance_agrees_with_published_air_distances(
    first: str, second: str, kilometres: int
) -> None:
    result = atlas.distance_between_cities(first, second)
    assert result["unit"] == "kilometres"
    assert result["distance"] == pytest.approx(kilometres, rel=0.01)


def test_both_distance_services_agree_where_both_know_the_cities() -> None:
    known = sorted(lookup._PLACES)[:40]
    assert [lookup.find_distance(a, b) for a, b in zip(known, known[1:], strict=False)] == [
        atlas.distance_between_cities(a, b) for a, b in zip(known, known[1:], strict=False)
    ]


def test_lookup_knows_about_sixty_percent_of_the_atlas() -> None:
    assert len(lookup._PLACES) / len(atlas._CITIES) == pytest.approx(0.6, abs=0.03)
    assert set(lookup._PLACES) < set(atlas._CITIES)


def test_city_names_are_read_without_case_and_accents() -> None:
    assert atlas.city_country(" são PAULO ") == {"country": "Brazil"}
    assert atlas.city_country("Bogotá") == {"country": "Colombia"}


def test_population_is_in_millions() -> None:
    # New York: 8,804,190 in the census of 2020
    result = atlas.city_population("New York")
    assert result == {"population": pytest.approx(8.8, abs=0.05), "unit": "million"}


@pytest.mark.parametrize(
    "call",
    [
        lambda: atlas.distance_between_cities("London", "Atlantis"),
        lambda: atlas.city_population("Atlantis"),
        lambda: atlas.city_country("Atlantis"),
        lambda: atlas.city_coordinates("Atlantis"),
        lambda: lookup.find_distance("Paris", "Atlantis"),
        lambda: facts.capital_of("Atlantis"),
        lambda: facts.population_of("Atlantis"),
        lambda: facts.area_of("Atlantis"),
        lambda: facts.currency_of("Atlantis"),
        lambda: facts.continent_of("Atlantis"),
    ],
)
def test_an_unknown_place_is_a_short_lookup_error(call: object) -> None:
    assert callable(call)
    with pytest.raises(LookupError) as caught:
        call()
    assert len(str(caught.value)) <= 102  # LookupError prints its message as it is


def test_the_population_service_is_closed() -> None:
    with pytest.raises(RuntimeError, match="service closed since"):
        lookup.find_population("Paris")


@pytest.mark.parametrize(
    ("country", "capital", "area", "currency", "continent"),
    # areas: CIA World Factbook, total area; currencies: ISO 4217
    [
        ("Japan", "Tokyo", 377975, "JPY", "Asia"),
        ("france", "Paris", 643801, "EUR", "Europe"),
        ("the Netherlands", "Amsterdam", 41543, "EUR", "Europe"),
        ("Brazil", "Brasilia", 8515767, "BRL", "South America"),
        ("Kenya", "Nairobi", 580367, "KES", "Africa"),
        ("USA", "Washington", 9833517, "USD", "North America"),
        ("New Zealand", "Wellington", 268838, "NZD", "Oceania"),
    ],
)
def test_country_facts_match_reference_works(
    country: str, capital: str, area: int, currency: str, continent: str
) -> None:
    assert facts.capital_of(country) == {"capital": capital}
    assert facts.area_of(country) == {"area": area, "unit": "square kilometres"}
    assert facts.currency_of(country) == {"currency": currency}
    assert facts.continent_of(country) == {"continent": continent}


def test_country_population_is_in_millions() -> None:
    # Australia: 26.6 million in June 2023, Australian Bureau of Statistics
    assert facts.population_of("Australia") == {"population": 26.6, "unit": "million"}


def test_there_are_many_countries_and_every_capital_is_in_the_atlas() -> None:
    assert len(facts._COUNTRIES) >= 75
    capitals = {row[0]: country for country, row in facts._COUNTRIES.items()}
    assert {atlas.city_country(city)["country"] for city in capitals} == set(capitals.values())


def test_every_city_of_the_vocabulary_is_in_the_atlas() -> None:
    path = Path(__file__).resolve().parents[3] / "data/instructions/vocabularies/cities.json"
    cities = re.findall(r'"([^"]+)"', path.read_text(encoding="utf-8"))
    assert [city for city in cities if city not in atlas._CITIES] == []


def test_euro_countries_match_the_euro_area_of_2026() -> None:
    # European Central Bank, "Our money": the 21 members of the euro area, Bulgaria since 2026
    names = (
        "Austria Belgium Bulgaria Croatia Cyprus Estonia Finland France Germany Greece Ireland "
        "Italy Latvia Lithuania Luxembourg Malta Netherlands Portugal Slovakia Slovenia Spain"
    )
    euro_area = set(names.split())
    assert {c for c, row in facts._COUNTRIES.items() if row[3] == "EUR"} == euro_area
