"""Plugin manifests, ToolBench documents, and writing what was imported."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.toolenv.catalog import load_catalogue
from services.toolenv.documents import Refusal
from services.toolenv.endpoints import AuthPlacement, HttpEndpoint
from services.toolenv.importers.ai_plugin import import_ai_plugin
from services.toolenv.importers.imported import ImportedTool, ToolRefused
from services.toolenv.importers.install import install, remove
from services.toolenv.importers.toolbench import import_toolbench
from services.toolenv.validate import validate_tool

SPEC = {
    "openapi": "3.0.1",
    "info": {"title": "TODO API", "version": "v1"},
    "servers": [{"url": "/api"}],
    "paths": {
        "/todos": {"get": {"operationId": "getTodos", "responses": {"200": {"description": ""}}}}
    },
}


def manifest(**changes: Any) -> bytes:
    value = {
        "schema_version": "v1",
        "name_for_model": "todo",
        "name_for_human": "TODO",
        "description_for_model": "Manages a list of things to do.",
        "description_for_human": "Things to do.",
        "auth": {
            "type": "service_http",
            "authorization_type": "bearer",
            "verification_tokens": {"openai": "super-secret"},
        },
        "api": {"type": "openapi", "url": "https://todo.example/openapi.json"},
        "logo_url": "https://todo.example/logo.png",
    }
    return json.dumps({**value, **changes}).encode()


class Web:
    """Pages by URL, and which were asked for."""

    def __init__(self, pages: dict[str, bytes]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pages[url]


def test_a_plugin_is_its_openapi_document_under_the_manifests_name() -> None:
    web = Web({"https://todo.example/openapi.json": json.dumps(SPEC).encode()})
    tool = import_ai_plugin(manifest(), file="ai-plugin.json", fetch=web)
    assert tool.tool == "todo"
    assert tool.document["tool_description"] == "Manages a list of things to do."
    assert "super-secret" not in json.dumps(tool.document)
    assert web.asked == ["https://todo.example/openapi.json"]


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({"type": "none"}, ()),
        ({"type": "oauth"}, (AuthPlacement("todo.plugin", "bearer"),)),
        (
            {"type": "user_http", "authorization_type": "basic"},
            (AuthPlacement("todo.plugin", "basic"),),
        ),
    ],
)
def test_the_manifests_authorisation_is_attached(
    tmp_path: Path, auth: dict[str, str], expected: tuple[AuthPlacement, ...]
) -> None:
    content = json.dumps(SPEC).encode()
    tool = import_ai_plugin(manifest(auth=auth), file="ai-plugin.json", openapi=content)
    install(tmp_path, tool, check=validate_tool)
    (entry,) = load_catalogue([tmp_path]).entries()
    assert isinstance(entry.endpoint, HttpEndpoint)
    assert entry.endpoint.url == "https://todo.example/api/todos"
    assert entry.endpoint.auth == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema_version": "v2"}, "schema_version"),
        ({"auth": {"type": "magic"}}, "auth.type"),
        ({"api": {"type": "graphql", "url": "x"}}, "api.type"),
        ({"name_for_model": ""}, "name_for_model"),
        ({"api": {"type": "openapi", "url": "file:///etc/passwd"}}, "--openapi"),
        ({"api": {"type": "openapi", "url": "openapi.json"}}, "--openapi"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(changes: dict[str, Any], named: str) -> None:
    web = Web({})
    with pytest.raises(ToolRefused, match=named):
        import_ai_plugin(manifest(**changes), file="ai-plugin.json", fetch=web)
    assert web.asked == []


def document(**changes: Any) -> bytes:
    value = {
        "tool_name": "Olato Quotes",
        "tool_description": "Quotes.",
        "host": "olato.p.rapidapi.com",
        "api_list": [
            {
                "name": "Love Quote",
                "url": "https://olato.p.rapidapi.com/love/{id}",
                "method": "GET",
                "code": "headers = {'X-RapidAPI-Key': 'LEAKED'}",
                "required_parameters": [{"name": "id"}, {"name": "page"}],
                "optional_parameters": [],
            }
        ],
    }
    return json.dumps({**value, **changes}).encode()


def test_a_rapidapi_document_gets_its_address(tmp_path: Path) -> None:
    tool = import_toolbench(document(), file="olato_quotes.json", category="Social")
    assert "LEAKED" not in json.dumps(tool.document)
    install(tmp_path, tool, check=validate_tool)
    (entry,) = load_catalogue([tmp_path]).entries()
    assert isinstance(entry.endpoint, HttpEndpoint)
    assert [(p.name, p.place) for p in entry.endpoint.parameters] == [
        ("id", "path"),
        ("page", "query"),
    ]
    assert entry.endpoint.headers == (("X-RapidAPI-Host", "olato.p.rapidapi.com"),)
    assert entry.endpoint.auth == (AuthPlacement("rapidapi", "header", "X-RapidAPI-Key"),)


def test_a_host_that_is_not_rapidapis_is_not_named_to_it(tmp_path: Path) -> None:
    tool = import_toolbench(document(host="evil.example"), file="t.json")
    install(tmp_path, tool, check=validate_tool)
    (entry,) = load_catalogue([tmp_path]).entries()
    assert isinstance(entry.endpoint, HttpEndpoint)
    assert entry.endpoint.headers == (("X-RapidAPI-Host", "olato.p.rapidapi.com"),)


@pytest.mark.parametrize(
    "url", ["https://rapidapi.com.evil.example/x", "https://evilrapidapi.com/x", "http://1.2.3.4/x"]
)
def test_the_rapidapi_key_is_for_rapidapi_only(tmp_path: Path, url: str) -> None:
    tool = import_toolbench(document(api_list=[{"name": "x", "url": url}]), file="t.json")
    install(tmp_path, tool, check=validate_tool)
    (entry,) = load_catalogue([tmp_path]).entries()
    assert isinstance(entry.endpoint, HttpEndpoint)
    assert (entry.endpoint.auth, entry.endpoint.headers) == ((), ())


def test_a_url_without_sense_leaves_the_api_without_an_address(tmp_path: Path) -> None:
    api = {"name": "x", "url": "not a url"}
    tool = import_toolbench(document(api_list=[api, "junk"]), file="t.json", code=b"def x(): ...")
    assert [refusal.field for refusal in tool.refusals] == ["api_list[0].url", "api_list[1]"]
    install(tmp_path, tool, check=validate_tool)
    (entry,) = load_catalogue([tmp_path]).entries()
    assert entry.endpoint is None and entry.code is not None


@pytest.mark.parametrize("category", ["../x", ".hidden", "_x", "a/../b\x00", "", " ", "x" * 101])
def test_no_category_leads_out_of_the_root(category: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    try:
        tool = import_toolbench(document(), file="t.json", category=category)
    except InvalidArgument as exc:
        assert "cannot be a category" in exc.detail
    else:
        path = install(root, tool, check=lambda _: [])
        assert path.resolve().parent.parent == root.resolve()


def make(name: str = "adder", code: str = "def add(): ...") -> ImportedTool:
    content = json.dumps({"tool_name": name, "api_list": [{"name": "add"}]}).encode()
    return import_toolbench(content, file=f"{name}.json", category="C", code=code.encode())


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.name != ".lock")


def test_a_refused_tool_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolRefused, match="no"):
        install(tmp_path, make(), check=lambda _: [Refusal("f", "x", "no", "fix")])
    assert files(tmp_path) == []


def test_a_check_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def check(_: Path) -> list[Refusal]:
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        install(tmp_path, make(), check=check)
    assert files(tmp_path) == []


def test_a_tool_is_replaced_only_when_asked(tmp_path: Path) -> None:
    install(tmp_path, make(), check=validate_tool)
    changed = make(code="def add(): return 2")
    with pytest.raises(FailedPrecondition, match="exists already"):
        install(tmp_path, changed, check=validate_tool)
    install(tmp_path, changed, check=validate_tool, replace=True)
    (entry,) = load_catalogue([tmp_path]).entries()
    assert entry.code is not None and "return 2" in entry.code.source
    assert files(tmp_path) == ["C", "C/adder", "C/adder.json", "C/adder/api.py"]


def test_a_removed_tool_is_gone_with_its_code(tmp_path: Path) -> None:
    install(tmp_path, make(), check=validate_tool)
    install(tmp_path, make("other"), check=validate_tool)
    remove(tmp_path, "C", "adder")
    assert files(tmp_path) == ["C", "C/other", "C/other.json", "C/other/api.py"]


@pytest.mark.parametrize("name", ["C/missing", "../C/adder", "C/../adder", "C/", "/adder"])
def test_only_tools_of_the_root_are_removed(tmp_path: Path, name: str) -> None:
    install(tmp_path / "root", make(), check=validate_tool)
    category, _, tool = name.partition("/")
    with pytest.raises((NotFound, InvalidArgument)):
        remove(tmp_path / "root", category, tool)
    assert load_catalogue([tmp_path / "root"]).entries()


def test_every_published_document_is_imported_as_it_is(shared_data: Path) -> None:
    count = 0
    for path in sorted((shared_data / "toolbench" / "tools").glob("*/*.json")):
        tool = import_toolbench(path.read_bytes(), file=path.name, category=path.parent.name)
        count += len(json.loads(path.read_bytes())["api_list"])
        count -= len(tool.refusals)
    assert count == len(load_catalogue([shared_data / "toolbench" / "tools"]))
