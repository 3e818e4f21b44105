from pathlib import Path

import pytest
from pydantic import ValidationError

from services.contracts.errors import FailedPrecondition, NotFound
from services.toolenv.mcp_servers import (
    Definitions,
    HttpTransport,
    McpServerDefinition,
    StdioTransport,
)


def server(name: str = "weather", **more: object) -> McpServerDefinition:
    reach = {"transport": "stdio", "command": "weather-server"}
    return McpServerDefinition.model_validate({"name": name, "reach": reach, **more})


def test_a_definition_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    definitions = Definitions(tmp_path)
    definitions.put(server(tools={"get": "0" * 64}))
    definitions.put(server("second"))
    assert definitions.read() == {
        "second": server("second"),
        "weather": server(tools={"get": "0" * 64}),
    }


def test_the_stamp_changes_with_the_file(tmp_path: Path) -> None:
    definitions = Definitions(tmp_path)
    before = definitions.stamp()
    definitions.put(server())
    assert definitions.stamp() != before


def test_removing_an_unknown_server_names_the_known_ones(tmp_path: Path) -> None:
    definitions = Definitions(tmp_path)
    definitions.put(server())
    with pytest.raises(NotFound, match="there are: weather"):
        definitions.remove("other")
    assert definitions.remove("weather") == server()
    assert definitions.read() == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "file"),
        ('{"a": {"name": "a"}}', "a.reach"),
        ('{"a": {"name": "b", "reach": {"transport": "stdio", "command": "c"}}}', "its name is"),
        ('{"a": {"name": "a", "reach": {"transport": "carrier-pigeon"}}}', "a.reach"),
        ('{"a": {"name": "a", "reach": {"transport": "stdio", "command": "c", "x": 1}}}', "stdio"),
    ],
)
def test_a_broken_file_is_refused_with_server_and_field(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "mcp-servers.json").write_text(content, encoding="utf-8")
    with pytest.raises(FailedPrecondition, match=words):
        Definitions(tmp_path).read()


@pytest.mark.parametrize("name", ["", "Weather", "a b", "../x", "_x", "9lives", "a__b", "ü"])
def test_a_name_that_is_no_standard_tool_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not a standard tool name"):
        server(name)


@pytest.mark.parametrize("category", [".hidden", "_x", "a/b", "a b", "a\0b", "ü"])
def test_a_category_that_is_no_folder_name_is_refused(category: str) -> None:
    with pytest.raises(ValidationError, match="category"):
        server(category=category)


@pytest.mark.parametrize("arg", ["--api-key=sk-1", "API_TOKEN=x", "--password=x"])
def test_a_secret_on_the_command_line_is_refused(arg: str) -> None:
    with pytest.raises(ValidationError, match="looks like a secret"):
        StdioTransport(command="server", args=(arg,))


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/home", "/home/anna", "/root", "/tmp", "relative", "/a/../etc"]
)
def test_a_read_path_that_holds_other_things_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        StdioTransport(command="server", read_paths=(path,))


@pytest.mark.parametrize("variable", ["PATH", "LD_PRELOAD", "A-B", "1A", ""])
def test_an_environment_variable_of_the_jail_or_none_at_all_is_refused(variable: str) -> None:
    with pytest.raises(ValidationError):
        StdioTransport(command="server", env={variable: "credential"})


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/mcp",
        "https://user:pass@example.com/mcp",
        "https://example.com/mcp?api_key=1",
        "https://example.com/mcp#top",
        "not a url",
    ],
)
def test_a_url_that_carries_a_secret_or_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpTransport(url=url)
