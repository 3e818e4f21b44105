"""Validation of a tool folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.toolenv.validate import validate_tool

REPOSITORY = Path(__file__).parents[3]
BUNDLED = sorted((REPOSITORY / "data" / "toolenv" / "tools").glob("*/*.json"))


def tool(folder: Path, code: str | None, *, apis: list[Any] | None = None) -> Path:
    default = [
        {
            "name": "Get Sum",
            "required_parameters": [{"name": "First Number"}],
            "optional_parameters": [{"name": "class"}],
        }
    ]
    document = folder / "Customized" / "adder.json"
    (document.parent / "adder").mkdir(parents=True)
    document.write_text(json.dumps({"tool_name": "adder", "api_list": apis or default}))
    if code is not None:
        (document.parent / "adder" / "api.py").write_text(code)
    return document


@pytest.mark.parametrize(
    "code",
    [
        "def get_sum(first_number, is_class=1): ...",
        "def get_sum(first_number, is_class=None, toolbench_rapidapi_key='k'): ...",
        "def get_sum(*, first_number, is_class=1): ...",
        "def get_sum(**arguments): ...",
    ],
)
def test_code_that_takes_the_documents_parameters_is_valid(tmp_path: Path, code: str) -> None:
    assert validate_tool(tool(tmp_path, code)) == []


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (None, "Customized/adder/api.py: file: it does not exist"),
        ("def get_sum(:", "it is not Python"),
        ("get_sum = print", "no function at module level for API 'Get Sum'"),
        ("def get_sum(first_number): ...", "parameter 'is_class' is missing"),
        (
            "def get_sum(first_number, is_class): ...",
            "optional parameter 'is_class' has no default",
        ),
        ("def get_sum(first_number, is_class=1, *, x): ...", "'x' has no default and is not in"),
        ("def get_sum(first_number, /, is_class=1): ...", "positional-only"),
        ("async def get_sum(first_number, is_class=1): ...", "coroutine"),
    ],
)
def test_code_that_does_not_fit_is_named_with_a_fix(
    tmp_path: Path, code: str | None, named: str
) -> None:
    problems = [str(problem) for problem in validate_tool(tool(tmp_path, code))]
    assert any(named in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ([{"name": "é"}], "parameter 'é' becomes '', which Python cannot pass"),
        ([{"name": "user id"}, {"name": "user-id"}], "both become 'user_id'"),
    ],
)
def test_parameters_that_cannot_be_passed_are_named(
    tmp_path: Path, parameters: list[Any], named: str
) -> None:
    apis = [{"name": "get", "required_parameters": parameters}]
    document = tool(tmp_path, "def get(**arguments): ...", apis=apis)
    (problem,) = validate_tool(document)
    assert named in str(problem)


def test_two_apis_that_models_cannot_tell_apart_are_named(tmp_path: Path) -> None:
    apis = [{"name": f"{letter}{'x' * 70}"} for letter in "ab"]
    names = " ".join(f"def {letter}{'x' * 70}(): ...\n" for letter in "ab").replace("\n ", "\n")
    problems = validate_tool(tool(tmp_path, names, apis=apis))
    assert len(problems) == 2
    assert "cut to 64 characters" in str(problems[0])


def test_code_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w')\ndef get_sum(first_number, is_class=1): ...\n"
    assert validate_tool(tool(tmp_path, code)) == []
    assert not marker.exists()


def test_a_missing_document_is_one_named_problem(tmp_path: Path) -> None:
    (problem,) = validate_tool(tmp_path / "C" / "t.json")
    assert str(problem).startswith("C/t.json: file: it does not exist")


def test_bundled_tools_are_there() -> None:
    assert len(BUNDLED) >= 15


@pytest.mark.parametrize("document", BUNDLED, ids=lambda path: path.stem)
def test_every_bundled_tool_is_valid(document: Path) -> None:
    assert validate_tool(document) == []


def test_every_keyword_is_passed_under_a_name_that_python_takes(tmp_path: Path) -> None:
    apis = [{"name": "import", "required_parameters": [{"name": "in"}, {"name": "a^b"}]}]
    assert validate_tool(tool(tmp_path, "def is_import(is_in, a_b): ...", apis=apis)) == []


def http(**changes: Any) -> dict[str, Any]:
    request = {
        "method": "GET",
        "url": "https://api.example/x/{id}",
        "parameters": [{"name": "id", "place": "path"}],
    }
    return {"http": {**request, **changes}}


def test_an_api_with_an_address_needs_no_code(tmp_path: Path) -> None:
    apis = [{"name": "x", "required_parameters": [{"name": "id"}], "x-toolwright": http()}]
    assert validate_tool(tool(tmp_path, None, apis=apis)) == []


@pytest.mark.parametrize(
    ("extension", "named"),
    [
        ({"htpp": {}}, "api_list[0].x-toolwright.htpp: Extra inputs are not permitted"),
        (http(url="ftp://api.example/{id}"), "not an absolute http or https URL"),
        (http(url="https://user:secret@api.example/{id}"), "user name or password"),
        (http(url="https://{id}/x"), "no fixed host"),
        (http(url="https://api.example/x"), "path parameter 'id' is not in the URL"),
        (http(headers={"Authorization": "Bearer x"}), "cannot be fixed in a document"),
        (http(headers={"X-A": "1\r\nHost: evil"}), "should match pattern"),
        (
            http(auth=[{"credential": "rapidapi", "kind": "header", "name": "X-RapidAPI-Key"}]),
            "only for RapidAPI's own hosts",
        ),
        (http(headers={"X-RapidAPI-Host": "evil.example"}), "not one of RapidAPI's own hosts"),
        ({"schemas": {"id": {"$ref": "file:///etc/passwd"}}}, "leads outside"),
        ({**http(), "schemas": {"id": {"type": "strin"}}}, "the schema of 'id' is wrong"),
        (
            http(parameters=[{"name": "id", "place": "path"}, {"name": "q", "place": "query"}]),
            "'q' in the request is filled from no parameter",
        ),
        (http(url="https://api.example/x", parameters=[]), "'id' has no place in the request"),
    ],
)
def test_an_extension_that_cannot_be_used_is_named_with_its_place(
    tmp_path: Path, extension: dict[str, Any], named: str
) -> None:
    apis = [{"name": "x", "required_parameters": [{"name": "id"}], "x-toolwright": extension}]
    problems = [str(problem) for problem in validate_tool(tool(tmp_path, None, apis=apis))]
    assert any(named in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("requests==2.32.3\n# a comment\n\npy-dateutil==2.9.0 # why\n", True),
        ("requests>=2\n", False),
        ("requests\n", False),
        ("-r other.txt\n", False),
        ("https://evil.example/x.whl\n", False),
        ("requests==1.0 --hash=sha256:00\n", False),
        ("requests==1.0\nRequests==2.0\n", False),
        ("\n".join(f"p{n}==1" for n in range(33)), False),
    ],
)
def test_required_packages_are_pinned(tmp_path: Path, text: str, is_good: bool) -> None:
    document = tool(tmp_path, "def get_sum(first_number, is_class=1): ...")
    (document.parent / "adder" / "requirements.txt").write_text(text)
    assert (validate_tool(document) == []) is is_good
