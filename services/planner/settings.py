"""Settings of the planner."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServedSettings


class PlannerSettings(ServedSettings):
    """Read from `PLANNER_*`."""

    model_config = SettingsConfigDict(env_prefix="PLANNER_", frozen=True, extra="ignore")

    port: int = Field(default=8003, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    llm_url: str = "http://127.0.0.1:8004"
    """Base URL of the language-model service."""
    toolenv_url: str = "http://127.0.0.1:8002"
    """Base URL of the tool environment."""
    retriever_url: str | None = "http://127.0.0.1:8001"
    """Base URL of the retriever; empty means that every request must name its APIs."""
    max_runs: int = Field(default=64, ge=1, le=4096)
    """Runs at the same time; one more is refused with 429."""
    max_deadline_s: float = Field(default=3600.0, gt=0, le=86_400)
    """Cap on a run's wall clock, seconds."""
    max_reply_tokens: int = Field(default=512, ge=1, le=32_768)
    """Longest reply asked of the model, tokens."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature."""
    stream_model: bool = True
    """Pass replies on while they are written."""
    connections: int = Field(default=256, ge=1, le=4096)
    """Open connections to each service."""
