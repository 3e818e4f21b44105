"""The program of an MCP server is looked up where the caller's shell would find it."""

import sys
from pathlib import Path

import pytest

from cli.mcp_discovery import ServerOptions, _definition
from services.contracts.errors import InvalidArgument
from services.toolenv.mcp_servers import StdioTransport


def command_of(*words: str) -> str:
    options = ServerOptions(
        name="bench",
        category="MCP",
        command=words,
        url=None,
        env=(),
        read=(),
        network=False,
        memory_mb=512,
        auth=(),
        allow_private=False,
    )
    reach = _definition(options).reach
    assert isinstance(reach, StdioTransport)
    return reach.command


def test_a_bare_name_becomes_the_path_of_the_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "venv" / "bin" / "python-of-mine"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(python.parent))
    assert command_of("python-of-mine", "server.py") == str(python)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "venv/bin")
    assert command_of("python-of-mine") == str(python)


def test_a_name_that_is_not_on_the_path_is_refused_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidArgument, match="no program 'uvx-of-mine' on PATH; install it"):
        command_of("uvx-of-mine", "server")
