"""Base of every service's settings, and the ones that all share (decision 8)."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from platformdirs import user_data_path
from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_home() -> Path:
    """`toolwright` in the XDG data folder of the user."""
    return user_data_path("toolwright")


def _is_text(field: FieldInfo) -> bool:
    return str in (field.annotation, *get_args(field.annotation))


class ServiceSettings(BaseSettings):
    """Frozen settings read from the environment once, in `__main__` or `app`.

    A subclass sets `model_config = SettingsConfigDict(env_prefix="TOOLENV_")`; the fields below
    keep their own names in every service. An empty variable counts as not set, unless the setting
    is a text.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: dict[str, object]) -> dict[str, object]:
        return {
            name: value
            for name, value in values.items()
            if value != "" or name not in cls.model_fields or _is_text(cls.model_fields[name])
        }


class ServedSettings(ServiceSettings):
    """Settings of a service that listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 takes a free one."""


def _unset_when_empty(value: object) -> object:
    """An empty variable is how compose files and shells write "not set"."""
    return None if value == "" else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_Optional = BeforeValidator(_unset_when_empty)
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]


class SharedSettings(ServiceSettings):
    """Settings that several services share, without a prefix."""

    toolwright_home: Path = Field(default_factory=default_home)
    """Folder of everything that is written: index, redis, runs, sandbox, results."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Broker of the evaluation queue."""
    qdrant_url: Annotated[str | None, _Optional] = None
    """Qdrant server; `None` keeps the index in an embedded shard under the home folder."""
    llm_base_url: Annotated[str | None, _Optional] = None
    """OpenAI-compatible server, e.g. `http://vllm:8000/v1`; `None` serves the bundled model."""
    llm_model: Annotated[str | None, _Optional] = None
    """Model name asked of that server."""
    llm_api_key: Annotated[SecretStr | None, _Optional] = None
    """Key for that server."""
    otel_exporter_otlp_endpoint: Annotated[str | None, _Optional] = None
    """OpenTelemetry collector that gets traces (OTLP over HTTP), e.g. `http://collector:4318`."""
    toolwright_trace_file: Annotated[Path | None, _Optional] = None
    """File that gets traces, one span per line; for looking without a collector."""
    log_level: LogLevel = "INFO"
    """Least severe level that is written."""
