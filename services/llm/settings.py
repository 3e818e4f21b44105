"""Settings of the language-model service."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServedSettings
from services.llm.dialects.toolllama import History
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
    toolllama_history: History = "training"
    """Form of earlier turns in ToolLLaMA's text: `training` as the model was trained; the quirks of
    published runs: `thoughts` leaves out their actions (ToolBench), `raw` their leading line break
    (StableToolBench)."""
    toolllama_reference_parser: bool = False
    """Read ToolLLaMA's replies as ToolBench does, which makes calls of malformed text."""
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
    context_tokens: int | None = Field(default=None, ge=256, le=16_777_216)
    """Tokens of prompt and reply together that the model holds; unset takes what the model or its
    server says."""
    follows_instructions: bool | None = None
    """Whether the model answers free questions, which some search methods need; unset takes it from
    the model's configuration, and means no for the dialect `toolllama`."""
    request_timeout_s: float = Field(default=300.0, gt=0, le=3600)
    """Longest time for one reply, seconds; a request's deadline may shorten it."""
