"""Documents of the tools from geography and text to food and sports: format, code, imports."""

import ast
import json

import pytest

from tests.unit.data import intent_checks

_TOOLS = (
    "Geography/city_atlas", "Geography/geo_lookup", "Geography/country_facts", "Text/text_tools",
    "Text/encoder", "Colour/colours", "Colour/palette", "Health/health_formulas",
    "Movies/film_table", "Movies/cinema_db", "Books/book_table", "Games/dice", "Games/word_scores",
    "Food/recipe_scaler", "Sports/sports_calculator",
)  # fmt: skip
_ALLOWED_IMPORTS = {"base64", "codecs", "hashlib", "math", "unicodedata", "zlib"}
_DOCUMENT_KEYS = {
    "tool_name", "tool_description", "title", "standardized_name", "home_url", "pricing", "host",
    "score", "api_list",
}  # fmt: skip


@pytest.mark.parametrize("tool", _TOOLS)
def test_document_and_code_fit_together(tool: str) -> None:
    assert intent_checks.document_problems(tool) == []


@pytest.mark.parametrize("tool", _TOOLS)
def test_document_has_exactly_the_keys_of_the_format(tool: str) -> None:
    path = intent_checks.TOOLS / f"{tool}.json"
    assert set(json.loads(path.read_text(encoding="utf-8"))) == _DOCUMENT_KEYS


@pytest.mark.parametrize("tool", _TOOLS)
def test_code_imports_only_pure_modules(tool: str) -> None:
    path = intent_checks.TOOLS / tool / "api.py"
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    imported = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    assert imported <= _ALLOWED_IMPORTS
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom)]


def test_there_are_at_least_35_apis() -> None:
    counts = [
        len(
            json.loads((intent_checks.TOOLS / f"{tool}.json").read_text(encoding="utf-8"))[
                "api_list"
            ]
        )
        for tool in _TOOLS
    ]
    assert sum(counts) >= 35
