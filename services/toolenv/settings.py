"""Settings of the tool environment."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.contracts.errors import FailedPrecondition
from services.contracts.toolenv import CallSource
from services.kit.settings import ServedSettings

RecordedSource = Literal["live", "remote", "custom"]


def _split(value: object, separator: str) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(separator) if part.strip())


_at_colons = BeforeValidator(partial(_split, separator=":"))
_at_commas = BeforeValidator(partial(_split, separator=","))
Paths = Annotated[tuple[Path, ...], NoDecode, _at_colons]
Sources = Annotated[tuple[CallSource, ...], NoDecode, _at_commas]


class ToolEnvSettings(ServedSettings):
    """Read from `TOOLENV_*`; the folder for files comes from `SharedSettings`."""

    model_config = SettingsConfigDict(env_prefix="TOOLENV_", frozen=True, extra="ignore")

    port: int = Field(default=8002, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    max_calls: int = Field(default=512, ge=1, le=65536)
    """Calls in progress at the same time, whoever executes them."""
    max_waiting_calls: int = Field(default=256, ge=0, le=65536)
    """Calls that may wait for a slot; one more is refused with 429."""

    tools_roots: Paths = (Path("data/toolenv/tools"),)
    """Folders of `<Category>/<tool>.json` that the operator ships, separated by colons; the first
    owns an address that occurs twice."""
    user_root: Path | None = None
    """Folder of tools that users add, in the same layout; `tools` in the home folder when unset."""
    user_tools: bool = True
    """Serve the tools of that folder too."""
    pin_tools: bool = True
    """Hold back a tool of the users' folder whose description changed, until it is approved."""
    watch_s: float = Field(default=0.0, ge=0, le=3600)
    """Seconds between two looks for added and changed tools; 0 reloads on request only."""

    sources: Sources = Field(default=("replay", "live", "custom"), min_length=1)
    """Who answers a call that names no sources itself, preferred first, separated by commas."""
    allowed_sources: Sources = ()
    """Further sources that a call may name, e.g. `simulated`."""

    record_sources: Annotated[tuple[RecordedSource, ...], NoDecode, _at_commas] = ()
    """Whose answers are recorded, separated by commas: `live`, `remote`, `custom`."""
    record_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """Longest time that an answer waits to be recorded, seconds."""
    cassette_durability: Literal["power", "process"] = "power"
    """What an acknowledged recording survives: loss of power, or only the end of the process."""
    snapshots: Annotated[tuple[str, ...], NoDecode, _at_commas] = ()
    """Frozen snapshots asked before the recordings: files or hashes, separated by commas."""
    verify_snapshots: bool = True
    """Check the content hash of each when it is mounted."""

    live_timeout_s: float = Field(default=30.0, gt=0, le=600)
    """Longest time for one live call with its retries, seconds."""
    live_concurrency: int = Field(default=8, ge=1, le=1024)
    """Live calls to one host at the same time."""
    live_rate_per_s: float = Field(default=10.0, gt=0, le=10_000)
    """Live calls to one host per second, sustained."""
    live_burst: int = Field(default=20, ge=1, le=10_000)
    """Live calls to one host at once after a pause."""
    allow_private: Annotated[frozenset[str], NoDecode, _at_commas] = frozenset()
    """`host:port` pairs that tools may reach although they have private addresses."""
    ca_file: Path | None = None
    """PEM file of further certificate authorities, for hosts of your own."""
    credentials_key: SecretStr | None = None
    """Fernet key of the stored credentials; one is made beside them when it is not set."""
    credentials_key_file: Path | None = None
    """File that holds that key, e.g. a mounted secret; an empty one counts as not set."""

    remote_url: str | None = None
    """Full URL of a ToolBench backend, e.g. `http://tools:8080/virtual`; needed by `remote`."""
    remote_key: SecretStr | None = None
    """The backend's `toolbench_key`."""
    remote_timeout_s: float = Field(default=60.0, gt=0, le=600)
    """Longest wait for one answer of the backend, seconds."""
    remote_concurrency: int = Field(default=64, ge=1, le=1024)
    """Calls sent to the backend at the same time."""
    compat: Literal["toolbench", "none"] = "none"
    """`toolbench` derives a remote call's status from the reference's six error texts only, and
    looks for its substrings in the answers of `/rapidapi`."""

    llm_url: str | None = None
    """Model service that plays APIs for `simulated`; the embedded system lends its own."""
    simulator_prompt: Path | None = None
    """File with the system prompt of a published MirrorAPI checkpoint; our own words when unset."""
    simulator_concurrency: int = Field(default=4, ge=1, le=256)
    """Simulated calls at the same time."""

    response_examples: Path | None = None
    """ToolBench's folder of response schemas, for the compressions `filter` and `random`."""
    compression_seed: int = Field(default=0, ge=0)
    """Seed of the compression `random`."""

    sandbox_tier: Literal["auto", "ns", "chroot"] = "auto"
    """Isolation: namespaces (bubblewrap), chroot (root only), or the first that works."""
    sandbox_zygotes: int = Field(default=min(2, os.cpu_count() or 1), ge=1, le=16)
    """Processes that fork workers; one for each core that may do so at the same time."""
    sandbox_pool_size: int = Field(default=8, ge=1, le=64)
    """Workers forked ahead of demand."""
    sandbox_concurrency: int = Field(default=8, ge=1, le=64)
    """Calls in the sandbox at the same time."""
    call_timeout_s: float = Field(default=30.0, gt=0, le=30)
    """Longest time for one sandboxed call, seconds."""

    @property
    def opened_sources(self) -> frozenset[CallSource]:
        """Every source that a call may name."""
        return frozenset(self.sources) | frozenset(self.allowed_sources)

    def read_credentials_key(self) -> SecretStr | None:
        """The key that is set, itself or in a file; `None` when neither holds one.

        Raises:
            FailedPrecondition: The file cannot be read.
        """
        path = self.credentials_key_file
        if self.credentials_key is not None or path is None:
            return self.credentials_key
        try:
            key = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise FailedPrecondition(
                f"TOOLENV_CREDENTIALS_KEY_FILE {str(path)!r} cannot be read: "
                f"{getattr(exc, 'strerror', None) or 'it is no text'}; let the service's user read "
                "it, or unset the variable"
            ) from exc
        return SecretStr(key) if key else None

    @model_validator(mode="after")
    def _remote_needs_an_address(self) -> "ToolEnvSettings":
        if "remote" in self.opened_sources and not self.remote_url:
            raise ValueError(
                "TOOLENV_SOURCES with 'remote' needs TOOLENV_REMOTE_URL, for example "
                "http://127.0.0.1:8080/virtual"
            )
        return self
