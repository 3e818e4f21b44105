"""Settings as compose files and shells give them."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServiceSettings
from services.llm.settings import LlmSettings
from services.planner.settings import PlannerSettings


class Sample(ServiceSettings):
    """One setting of each kind."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_", frozen=True, extra="ignore")

    number: int = Field(default=3, ge=1)
    price: float | None = None
    choice: Literal["a", "b"] = "b"
    is_on: bool | None = True
    file: Path | None = None
    url: str | None = "http://127.0.0.1:1"


def test_an_empty_number_choice_or_file_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUMBER", "PRICE", "CHOICE", "IS_ON", "FILE"):
        monkeypatch.setenv(f"SAMPLE_{name}", "")
    assert Sample() == Sample.model_construct()


def test_an_empty_text_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_URL", "")
    assert Sample().url == ""


@pytest.mark.parametrize("settings", [PlannerSettings, LlmSettings])
def test_every_setting_of_a_service_may_be_empty(
    settings: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = settings.model_config["env_prefix"]
    own_meaning = {"retriever_url"}  # empty: no retriever
    texts = {name for name, field in settings.model_fields.items() if field.annotation is str}
    for name in settings.model_fields.keys() - texts - own_meaning:
        monkeypatch.setenv(f"{prefix}{name}".upper(), "")
    assert settings() == settings.model_construct()
