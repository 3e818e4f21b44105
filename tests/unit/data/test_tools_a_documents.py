"""The tool documents of part A describe the functions that stand beside them."""

import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[3] / "data" / "toolenv" / "tools"
CATEGORIES = ("Measurement", "Finance", "Time", "Mathematics", "Chemistry")
DOCUMENTS = sorted(path for category in CATEGORIES for path in (TOOLS / category).glob("*.json"))
IMPORT_LIMIT_S = 0.1  # the toolset asks for 5 ms; the rest is room for a busy machine


def _functions(document_path: Path) -> dict[str, list[str]]:
    """Parameter names of every public function of the tool's module."""
    path = document_path.with_suffix("") / "api.py"
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_api", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    members = inspect.getmembers(module, inspect.isfunction)
    return {
        name: list(inspect.signature(function).parameters)
        for name, function in members
        if not name.startswith("_")
    }


def test_the_part_has_at_least_thirty_apis() -> None:
    assert (
        sum(len(json.loads(path.read_text(encoding="utf-8"))["api_list"]) for path in DOCUMENTS)
        >= 30
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_documented_api_is_a_function_with_the_same_parameters(path: Path) -> None:
    documented = {
        api["name"]: [
            parameter["name"]
            for parameter in api["required_parameters"] + api["optional_parameters"]
        ]
        for api in json.loads(path.read_text(encoding="utf-8"))["api_list"]
    }
    assert documented == _functions(path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_names_are_standardised_and_descriptions_short(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["tool_name"] == document["standardized_name"] == path.stem
    assert document["tool_description"].count(".") == 1
    for api in document["api_list"]:
        assert len(api["description"].split()) <= 12
        assert api["description"].endswith(".")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_module_loads_quickly_and_without_zone_data(path: Path) -> None:
    code = path.with_suffix("") / "api.py"
    timed = (
        "import runpy, sys, time; start = time.perf_counter(); "
        "runpy.run_path(sys.argv[1]); print(time.perf_counter() - start); "
        "assert 'zoneinfo' not in sys.modules"
    )
    command = [sys.executable, "-S", "-c", timed, str(code)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert float(answer.stdout) < IMPORT_LIMIT_S
