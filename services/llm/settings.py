"""Settings of the language-model service."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServedSettings
from services.llm.engines.constraint import Constrain


class LlmSettings(ServedSettings):
    """Read from `LLM_*`; the server's address, model and key come from `SharedSettings`."""

    model_config = SettingsConfigDict(env_prefix="LLM_", frozen=True, extra="ignore")

    port: int = Field(default=8004, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    engine: Literal["auto", "transformers", "openai"] = "auto"
    """`transformers` serves `model_path`, `openai` calls the server at `LLM_BASE_URL`; `auto` takes
    the server when its address is set."""
    model_path: Path = Path("data/models/toolwright-mini")
    """Folder with weights, tokenizer and chat template."""
    dialect: Literal["openai", "toolllama"] = "openai"
    """How the server's model is talked to: `openai` is chat completions with tools, `toolllama`
    is ToolLLaMA's text over plain completions."""
    constrain: Constrain = "values"
    """What decoding forces to be valid (transformers only): nothing, offered names and schema keys,
    or also argument values taken from the instruction and the observations."""
    batch: int = Field(default=32, ge=1, le=256)
    """Replies generated at once (transformers only)."""
    max_queue: int = Field(default=128, ge=1, le=65_536)
    """Requests that may wait beyond those in work; one more is refused with 429."""
    connections: int = Field(default=256, ge=1, le=4096)
    """Requests sent to the server at the same time (openai only)."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads of torch; unset leaves OMP_NUM_THREADS in force."""
    request_timeout_s: float = Field(default=300.0, gt=0, le=3600)
    """Longest time for one reply, seconds; a request's deadline may shorten it."""
