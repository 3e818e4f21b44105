"""Elements and molar masses agree with published values."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[3] / "data" / "toolenv" / "tools" / "Chemistry"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"Chemistry_{tool}_api", TOOLS / tool / "api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLE = _load("periodic_table")
MOLAR = _load("molar_mass")
FINDER = _load("element_finder")
# CRC Handbook of Chemistry and Physics, 97th edition, section 1: standard atomic weights.
PUBLISHED = [
    ("hydrogen", "H", 1, 1.008),
    ("Carbon", "C", 6, 12.011),
    ("sodium", "Na", 11, 22.990),
    ("aluminum", "Al", 13, 26.982),
    ("sulphur", "S", 16, 32.06),
    ("iron", "Fe", 26, 55.845),
    ("KRYPTON", "Kr", 36, 83.798),
    ("silver", "Ag", 47, 107.868),
    ("tungsten", "W", 74, 183.84),
    ("gold", "Au", 79, 196.967),
    ("lead", "Pb", 82, 207.2),
    ("uranium", "U", 92, 238.029),
]


@pytest.mark.parametrize(("name", "symbol", "number", "mass"), PUBLISHED)
def test_elements_have_their_published_values(name, symbol, number, mass) -> None:
    assert TABLE.element_symbol(name) == {"symbol": symbol}
    assert TABLE.atomic_number(name) == {"atomic_number": number}
    assert TABLE.atomic_mass(name)["atomic_mass"] == pytest.approx(mass, rel=2e-5)


@pytest.mark.parametrize(
    ("number", "symbol"), [(2, "He"), (18, "Ar"), (54, "Xe"), (86, "Rn"), (118, "Og")]
)
def test_closed_shells_stand_where_they_belong(number: int, symbol: str) -> None:
    assert TABLE.atomic_number(symbol) == {"atomic_number": number}
    assert TABLE.element_symbol(str(number)) == {"symbol": symbol}


def test_all_118_elements_are_known_once() -> None:
    symbols = {TABLE.element_symbol(number)["symbol"] for number in range(1, 119)}
    assert len(symbols) == 118


@pytest.mark.parametrize(
    "function", [TABLE.element_symbol, TABLE.atomic_number, TABLE.atomic_mass, FINDER.find_symbol]
)
def test_unknown_elements_are_refused(function) -> None:
    with pytest.raises(LookupError, match="'kryptonite' is not"):
        function("kryptonite")


def test_the_finder_agrees_with_the_table_up_to_krypton_and_knows_no_more() -> None:
    assert FINDER.find_symbol("Krypton") == TABLE.element_symbol("Krypton")
    with pytest.raises(LookupError, match="'rubidium' is not among the first 36 elements"):
        FINDER.find_symbol("rubidium")


@pytest.mark.parametrize(
    ("formula", "grams_per_mole"),
    # Molecular weights listed by PubChem (National Library of Medicine).
    [
        ("H2O", 18.015),
        ("C6H12O6", 180.156),
        ("Ca(OH)2", 74.093),
        ("Al2(SO4)3", 342.15),
        ("(NH4)2SO4", 132.14),
        ("K4[Fe(CN)6]", 368.34),
        ("CuSO4·5H2O", 249.69),
        ("C8H10N4O2", 194.19),
        (" Na Cl ", 58.44),
    ],
)
def test_molar_masses_are_the_published_ones(formula: str, grams_per_mole: float) -> None:
    result = MOLAR.molar_mass(formula)
    assert result["molar_mass"] == pytest.approx(grams_per_mole, rel=1e-4)
    assert result["unit"] == "g/mol"


@pytest.mark.parametrize("number", range(1, 119))
def test_a_single_atom_weighs_what_the_periodic_table_says(number: int) -> None:
    symbol = TABLE.element_symbol(number)["symbol"]
    assert MOLAR.molar_mass(symbol)["molar_mass"] == TABLE.atomic_mass(symbol)["atomic_mass"]


@pytest.mark.parametrize(
    "formula",
    ["", "water", "(H2O", "H2O)", "5", "H0", "C99999", "H2O.", "H-2", "C" * 101, "(" * 50],
)
def test_malformed_formulas_are_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="formula|count") as caught:
        MOLAR.molar_mass(formula)
    assert len(str(caught.value)) <= 100


def test_unknown_symbols_are_named() -> None:
    with pytest.raises(LookupError, match="'Xx' in 'Xx2O' is not an element symbol"):
        MOLAR.molar_mass("Xx2O")
