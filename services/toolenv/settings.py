"""Settings of the tool environment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.contracts.toolenv import CallSource
from services.kit.settings import ServedSettings


class ToolEnvSettings(ServedSettings):
    """Read from `TOOLENV_*`; the folder for files comes from `SharedSettings`."""

    model_config = SettingsConfigDict(env_prefix="TOOLENV_", frozen=True, extra="ignore")

    port: int = Field(default=8002, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    tools_roots: Annotated[tuple[Path, ...], NoDecode] = (Path("data/toolenv/tools"),)
    """Folders of `<Category>/<tool>.json`, separated by colons; the first owns an address that
    occurs twice."""
    sources: Annotated[tuple[CallSource, ...], NoDecode] = Field(
        default=("custom",), min_length=1, max_length=5
    )
    """Who answers a call that names no sources itself, preferred first, separated by commas."""
    remote_url: str | None = None
    """Full URL of a ToolBench backend, e.g. `http://tools:8080/virtual`; needed by `remote`."""
    remote_key: SecretStr | None = None
    """The backend's `toolbench_key`."""
    remote_timeout_s: float = Field(default=60.0, gt=0, le=600)
    """Longest wait for one answer of the backend, seconds."""
    remote_concurrency: int = Field(default=64, ge=1, le=1024)
    """Calls sent to the backend at the same time."""
    credentials_key: SecretStr | None = None
    """Fernet key of the stored credentials; one is made beside them when it is not set."""
    compat: Literal["toolbench", "none"] = "none"
    """`toolbench` derives a remote call's status from the reference's six error texts only."""
    sandbox_tier: Literal["auto", "ns", "chroot"] = "auto"
    """Isolation: namespaces (bubblewrap), chroot (root only), or the first that works."""
    sandbox_pool_size: int = Field(default=4, ge=1, le=64)
    """Workers forked ahead of demand."""
    sandbox_concurrency: int = Field(default=8, ge=1, le=64)
    """Calls in the sandbox at the same time."""
    call_timeout_s: float = Field(default=30.0, gt=0, le=30)
    """Longest time for one sandboxed call, seconds."""
    max_calls: int = Field(default=512, ge=1, le=65536)
    """Calls in progress at the same time, whoever executes them."""
    max_waiting_calls: int = Field(default=256, ge=0, le=65536)
    """Calls that may wait for a slot; one more is refused with 429."""

    @field_validator("tools_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("sources", mode="before")
    @classmethod
    def _split_sources(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @model_validator(mode="after")
    def _remote_needs_an_address(self) -> "ToolEnvSettings":
        if "remote" in self.sources and not self.remote_url:
            raise ValueError(
                "TOOLENV_SOURCES with 'remote' needs TOOLENV_REMOTE_URL, for example "
                "http://127.0.0.1:8080/virtual"
            )
        return self
