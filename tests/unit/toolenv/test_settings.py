"""Settings from the environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.toolenv.settings import ToolEnvSettings


def test_roots_are_separated_by_colons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLENV_TOOLS_ROOTS", "/a/tools:/b")
    assert ToolEnvSettings().tools_roots == (Path("/a/tools"), Path("/b"))


def test_a_remote_executor_without_a_url_is_refused_with_an_example(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOOLENV_SOURCES", "remote")
    with pytest.raises(ValidationError, match="TOOLENV_REMOTE_URL, for example"):
        ToolEnvSettings()


def test_the_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLENV_REMOTE_KEY", "s3cret")
    settings = ToolEnvSettings(sources=("remote",), remote_url="http://127.0.0.1:1/virtual")
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALL_TIMEOUT_S", "0"),
        ("CALL_TIMEOUT_S", "31"),
        ("SANDBOX_POOL_SIZE", "65"),
        ("PORT", "-1"),
        ("SOURCES", "host"),
        ("SANDBOX_TIER", "none"),
    ],
)
def test_a_value_out_of_range_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TOOLENV_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        ToolEnvSettings()
