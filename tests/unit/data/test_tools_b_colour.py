"""Colour tools against codes of CSS Color Module Level 4, section 6.1, and exact fractions."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).resolve().parents[3] / "data" / "toolenv" / "tools" / "Colour"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"colour_{tool}", _TOOLS / tool / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


colours = _load("colours")
palette = _load("palette")


def _rgb(name: str) -> tuple[int, ...]:
    """Decimal parts of a colour, read from the hex code by bytes.fromhex."""
    return tuple(bytes.fromhex(colours.name_to_hex(name)["hex"][1:]))


@pytest.mark.parametrize(
    ("name", "rgb"),
    # decimal values of the table in CSS Color Module Level 4, section 6.1
    [
        ("tomato", (255, 99, 71)),
        ("Rebecca Purple", (102, 51, 153)),
        ("cornflowerblue", (100, 149, 237)),
        ("dark slate grey", (47, 79, 79)),
        ("peru", (205, 133, 63)),
        ("hot-pink", (255, 105, 180)),
        ("gold", (255, 215, 0)),
        ("light goldenrod yellow", (250, 250, 210)),
        ("medium aquamarine", (102, 205, 170)),
        ("sea shell", (255, 245, 238)),
    ],
)
def test_names_have_the_codes_of_the_css_standard(name: str, rgb: tuple[int, ...]) -> None:
    assert _rgb(name) == rgb


def test_every_css_name_is_listed_once() -> None:
    # 148 names in the standard less the 7 doubles with the spelling "grey"
    assert len(colours._COLOURS) == 141
    assert all(len(code) == 7 for code in colours._COLOURS.values())


def test_colours_that_the_standard_calls_synonyms_are_equal() -> None:
    assert colours.name_to_hex("aqua") == colours.name_to_hex("cyan")
    assert colours.name_to_hex("fuchsia") == colours.name_to_hex("magenta")


@pytest.mark.parametrize("code", ["#1e90ff", "1E90FF", " #1e90ff "])
def test_hex_code_is_split_into_its_parts(code: str) -> None:
    assert colours.hex_to_rgb(code) == {"red": 30, "green": 144, "blue": 255}


def test_short_hex_code_doubles_each_digit() -> None:
    assert colours.hex_to_rgb("#f80") == colours.hex_to_rgb("#ff8800")


@pytest.mark.parametrize(
    ("first", "second"), [("red", "blue"), ("peru", "tomato"), ("black", "white")]
)
def test_mixture_is_the_mean_of_each_part_rounded_half_up(first: str, second: str) -> None:
    means = [Fraction(a + b, 2) for a, b in zip(_rgb(first), _rgb(second), strict=True)]
    expected = [int(mean + Fraction(1, 2)) for mean in means]
    mixed = colours.mix_colours(first, second)["hex"]
    assert list(bytes.fromhex(mixed[1:])) == expected


def test_palette_agrees_with_the_full_table_on_its_twenty_colours() -> None:
    assert len(palette._BASIC) == 20
    assert all(palette.colour_code(n) == colours.name_to_hex(n) for n in palette._BASIC)


def test_palette_lacks_colours_that_the_full_table_has() -> None:
    with pytest.raises(LookupError, match="'peru' is not on the palette"):
        palette.colour_code("peru")


@pytest.mark.parametrize(
    "call",
    [lambda: colours.name_to_hex("blurple"), lambda: colours.mix_colours("red", "blurple")],
)
def test_unknown_colour_is_a_lookup_error(call: object) -> None:
    assert callable(call)
    with pytest.raises(LookupError, match="'blurple' is not one of the 141"):
        call()


@pytest.mark.parametrize("code", ["#12345", "tomato", "", "#gggggg"])
def test_malformed_hex_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="must look like #1e90ff"):
        colours.hex_to_rgb(code)
