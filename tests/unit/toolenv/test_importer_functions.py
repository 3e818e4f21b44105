"""Python modules become tools without ever being run."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.apis import ApiDocument, SideEffect
from services.toolenv.authoring import api
from services.toolenv.catalog import load_catalogue
from services.toolenv.documents import parse_document
from services.toolenv.importers.functions import import_functions
from services.toolenv.importers.imported import ImportedTool, ToolRefused
from services.toolenv.importers.install import install
from services.toolenv.validate import validate_tool

MODULE = '''"""Weather of made-up places."""
from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal, Optional, TypedDict

from services.toolenv.authoring import api


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


@dataclass
class Place:
    city: str
    country: str = "DE"


class Report(TypedDict, total=False):
    city: str
    degrees: float


def helper(value):
    return value.name


@api(category="Weather", side_effect="read", template_response={"city": "str"})
def getWeather(cityName: str, unit: Unit = Unit.C, *, days: int | None = None) -> Report:
    """Weather of a city.

    Args:
        cityName: Name of the city.
        unit: Of the temperature.
    """
    return {"city": cityName, "unit": helper(unit)}


@api
def compare(
    places: list[Place], mode: Literal["hot", "cold"] = "hot", id: Annotated[int, "a number"] = 3
) -> list[str]:
    """Compare places.

    Parameters
    ----------
    places : list
        What to compare.
    """
    return [place.city + place.country for place in places]


@api(name="import", deprecated=True)
def plain(city, limit: "Optional[int]" = 10):
    """:param city: a city"""
    return {"city": city, "limit": limit}
'''


def imported(source: str, **options: Any) -> ImportedTool:
    return import_functions(source.encode(), file="m.py", name="weather", **options)


def apis(tool: ImportedTool) -> dict[str, ApiDocument]:
    parsed = parse_document(
        json.dumps(tool.document).encode(),
        file="t.json",
        category_name=tool.category,
        ref_category=tool.category,
        tool=tool.tool,
    )
    assert parsed.refusals == ()
    return {document.ref.api: document for document in parsed.apis}


def run(tool: ImportedTool) -> dict[str, Any]:
    """The code's names, as in the sandbox: only ever done with a module of this file."""
    names: dict[str, Any] = {"__name__": __name__}  # dataclasses look their module up
    exec(compile(tool.code or "", "api.py", "exec"), names)
    return names


def reasons(source: str) -> str:
    with pytest.raises(ToolRefused) as refused:
        imported(source)
    return str(refused.value)


@pytest.fixture
def tool() -> ImportedTool:
    return imported(MODULE)


def test_marked_functions_become_apis(tool: ImportedTool) -> None:
    found = apis(tool)
    assert list(found) == ["get_weather", "compare", "import"]
    assert tool.category == "Weather"
    assert tool.document["tool_description"] == "Weather of made-up places."
    assert found["get_weather"].declared_effect is SideEffect.READ
    assert found["get_weather"].template_response == {"city": "str"}
    assert found["compare"].template_response == ["str"]
    assert found["import"].description.startswith("Deprecated. ")


def test_hints_and_docstrings_describe_the_parameters(tool: ImportedTool) -> None:
    weather, compare = apis(tool)["get_weather"], apis(tool)["compare"]
    (city,) = weather.required_parameters
    unit, days = weather.optional_parameters
    assert (city.name, city.type, city.description) == ("cityName", "STRING", "Name of the city.")
    assert unit.json_schema == {"type": "string", "enum": ["celsius", "fahrenheit"]}
    assert days.json_schema == {"type": ["integer", "null"]}
    (places,) = compare.required_parameters
    assert places.description == "What to compare."
    assert places.json_schema is not None
    assert places.json_schema["items"]["required"] == ["city"]
    assert compare.optional_parameters[1].description == "a number"
    assert compare.optional_parameters[1].default == 3


def test_the_code_is_called_with_json_under_standard_names(tool: ImportedTool) -> None:
    names = run(tool)
    assert names["get_weather"](cityname="Bonn", unit="fahrenheit") == {"city": "Bonn", "unit": "F"}
    assert names["compare"](places=[{"city": "Bonn"}], is_id=4) == ["BonnDE"]
    assert names["is_import"](city="x", limit=None) == {"city": "x", "limit": None}
    with pytest.raises(TypeError):
        names["get_weather"](nonsense=1)


def test_the_code_is_the_module_without_its_marks(tool: ImportedTool, tmp_path: Path) -> None:
    assert tool.code is not None
    assert "authoring" not in tool.code and "@api" not in tool.code
    lines, before = tool.code.split("\n"), MODULE.split("\n")
    assert lines.index("def helper(value):") == before.index("def helper(value):")
    install(tmp_path, tool, check=validate_tool)


def test_the_mark_changes_nothing() -> None:
    def function(x: int) -> int:
        return x + 1

    assert api(function) is function
    assert api(name="x", side_effect="write")(function) is function


def test_without_marks_every_public_function_is_an_api() -> None:
    tool = imported("def one(a: int = 1): ...\ndef _two(): ...\nclass A:\n    def three(self): ...")
    assert list(apis(tool)) == ["one"]
    assert tool.category == "Customized"
    assert apis(tool)["one"].description == "One."


@pytest.mark.parametrize(
    "line",
    [
        "import services.toolenv.authoring as t\n@t.api\ndef f(): ...",
        "from services.toolenv import authoring\n@authoring.api()\ndef f(): ...",
        "import services.toolenv.authoring\n@services.toolenv.authoring.api\ndef f(): ...",
        "try:\n    from services.toolenv.authoring import api as a\nexcept ImportError:\n    pass\n"
        "@a(\n  name='f',\n)\ndef f(): ...",
    ],
)
def test_marks_are_known_however_they_are_imported(line: str) -> None:
    tool = imported(f"{line}\ndef g(): ...\n")
    assert list(apis(tool)) == ["f"]
    assert "authoring" not in (tool.code or "")
    ast.parse(tool.code or "")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("def f(*args): ...", "f, line 1: *args says nothing about what it takes; name every"),
        ("def f(**kwargs): ...", "**kwargs says nothing"),
        ("def f(a, /): ...", "positional-only"),
        ("async def f(): ...", "it is a coroutine, which nobody awaits; write `def`"),
        ("def f():\n    yield 1", "it is a generator"),
        ("\n\ndef f(a: bytes): ...", "f, line 3: type hint 'bytes' is not supported; use str, int"),
        ("def f(a: datetime.date): ...", "date is no JSON type; take a str in ISO 8601"),
        ("def f(a: 'lis['): ...", "is not Python"),
        ("def f(a: dict[int, str]): ...", "a JSON object has text as keys"),
        ("class A: ...\ndef f(a: A): ...", "class A is no Enum, TypedDict or dataclass"),
        (
            "from typing import TypedDict\nclass A(TypedDict):\n    a: 'A'\ndef f(a: A): ...",
            "contains itself",
        ),
        (
            "from enum import *\nclass E(Enum):\n    A = auto()\ndef f(e: E): ...",
            "'auto()' is no literal",
        ),
        ("def f(userId, userid): ...", "parameter 'userid' has the standard name 'userid'"),
        ("def f(é): ...", "has the standard name ''"),
        ("def é(): ...", "no Python name is left"),
        ("def getX(): ...\ndef get_x(): ...", "the API is called as 'get_x', which this module"),
        ("from . import x\ndef f(): ...", "a relative import leads nowhere"),
        ("x = 1", "it has no public function"),
        ("def f(:", "it is not Python"),
        ("\x00", "it is not Python"),
        ("x = " + "(" * 5000, "it is not Python"),
        (
            "from services.toolenv.authoring import api\n@api(side_effect='boom')\ndef f(): ...",
            "side_effect 'boom' is unknown",
        ),
        (
            "from services.toolenv.authoring import api\n@api(name=NAME)\ndef f(): ...",
            "name of the mark is unknown or of the wrong type",
        ),
        (
            "from services.toolenv.authoring import api; x = 1\n@api\ndef f(): ...",
            "the mark shares its line",
        ),
        (
            "from services.toolenv.authoring import api\n@api(category='A')\ndef f(): ...\n"
            "@api(category='B')\ndef g(): ...",
            "a tool has one category, not A, B",
        ),
    ],
)
def test_what_cannot_become_an_api_is_named_with_line_and_fix(source: str, named: str) -> None:
    assert named in reasons(source)


def test_all_problems_are_named_at_once() -> None:
    assert reasons("def f(*a): ...\nasync def g(): ...").count("\n") == 1


def test_a_hostile_module_is_never_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    source = (
        f"open({str(witness)!r}, 'w').write('x')\n"
        f"def f(a: str = open({str(witness)!r}, 'w'), b: 'exec(1)' = 1): ...\n"
    )
    reasons(source)
    imported(source.replace("'exec(1)'", "int"))
    assert not witness.exists()


def test_a_deep_expression_is_read_or_refused() -> None:
    deep = "+".join(["1"] * 5000)
    assert "recursion depth" in reasons(f"def F(a: int = {deep}): ...\n")


def test_pinned_packages_come_along() -> None:
    tool = imported("def f(): ...", requirements=b"Requests==2.32.3  # http\n")
    assert tool.requirements == "requests==2.32.3\n"
    with pytest.raises(ToolRefused, match="name==version"):
        imported("def f(): ...", requirements=b"requests\n")


def test_the_hosts_that_the_code_may_reach_are_noted(tmp_path: Path) -> None:
    tool = imported("def f(): ...", hosts=["API.example.org", "*.cdn.example"])
    install(tmp_path, tool, check=validate_tool)
    (entry,) = load_catalogue([tmp_path]).entries()
    assert entry.hosts == ("api.example.org", "*.cdn.example")
    for host in ("*", "localhost", "127.0.0.1:80", "https://x.example", "a.example/..", "*.*.x"):
        with pytest.raises(ToolRefused, match="names of hosts"):
            imported("def f(): ...", hosts=[host])


ANNOTATIONS = st.recursive(
    st.sampled_from(["str", "int", "float", "bool", "list", "dict", "None", "Any", "E", "D", "x"]),
    lambda inner: st.one_of(
        st.builds("list[{}]".format, inner),
        st.builds("Optional[{}]".format, inner),
        st.builds("{} | {}".format, inner, inner),
        st.builds("dict[str, {}]".format, inner),
    ),
    max_leaves=6,
)
CLASSES = "class E(Enum):\n    A = 1\n@dataclass\nclass D:\n    a: int\n"


@given(st.lists(ANNOTATIONS, max_size=3), st.text(alphabet="abcXYZ_", min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_signature_is_valid_or_refused(annotations: list[str], name: str) -> None:
    spec = ", ".join(f"a{i}: {hint}" for i, hint in enumerate(annotations))
    try:
        tool = imported(f"{CLASSES}def g{name}({spec}): ...\n")
    except ToolRefused as exc:
        assert exc.refusals
    else:
        (document,) = apis(tool).values()
        assert len(document.required_parameters) == len(annotations)
