"""Settings of the embedded system, prefix `EMBEDDED_`."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServiceSettings


class EmbeddedSettings(ServiceSettings):
    """Everything else comes from the services' own settings."""

    model_config = SettingsConfigDict(env_prefix="EMBEDDED_", frozen=True, extra="ignore")

    tools_root: Path | None = None
    """Tools tree in ToolBench's layout; the bundled one when `None`."""
    model_path: Path | None = None
    """Folder of a local model in Hugging Face's layout; the bundled one when `None`."""
    worker_concurrency: int = Field(default=8, ge=1, le=64)
    """Samples that the evaluation worker solves at once."""
    model_threads: int = Field(default=min(2, os.cpu_count() or 1), ge=1, le=64)
    """Threads of the embedded model."""
