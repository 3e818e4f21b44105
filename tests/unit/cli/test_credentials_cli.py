"""Which secrets the command line stores, and which it asks to be narrowed first."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.credentials import app
from services.contracts.errors import InvalidArgument

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLWRIGHT_HOME", str(tmp_path))


def stored(*words: str) -> str:
    result = RUNNER.invoke(app, ["set", *words], input="canary-4711\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_a_secret_that_any_document_could_ask_for_must_be_narrowed() -> None:
    with pytest.raises(InvalidArgument, match="--tool CATEGORY/TOOL, or --any-tool"):
        stored("github")
    assert "for tool MCP/github" in stored("github", "--tool", "MCP/github")
    assert "for everybody" in stored("github", "--any-tool")


def test_the_rapidapi_key_needs_no_narrowing_because_it_goes_to_rapidapi_only() -> None:
    assert "'rapidapi' for everybody" in stored("rapidapi")


def test_a_listing_never_shows_the_secret() -> None:
    stored("rapidapi", "--user", "ada")
    listing = RUNNER.invoke(app, ["list", "--json"]).output
    assert '"ada"' in listing
    assert "canary" not in listing
