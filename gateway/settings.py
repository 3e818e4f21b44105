"""Settings of the gateway, prefix `GATEWAY_`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServedSettings


class GatewaySettings(ServedSettings):
    """See `ServiceSettings`."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, extra="ignore")

    port: int = Field(default=5000, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    planner_url: str = "http://planner:8000"
    """Base URL of the planner."""
    retriever_url: str = "http://retriever:8000"
    """Base URL of the retriever."""
    toolenv_url: str = "http://toolenv:8000"
    """Base URL of the tool environment."""
    max_concurrent_runs: int = Field(default=320, ge=1, le=100_000)
    """Runs open at once, working or waiting; one more is refused with 429. By default what the
    planner lets work and wait (`PLANNER_MAX_RUNS`, `PLANNER_MAX_WAITING_RUNS`)."""
    max_depth: int = Field(default=12, ge=1, le=1_000)
    """Depth limit of a run, edges in ToolBench's counting."""
    max_llm_calls: int = Field(default=60, ge=1, le=10_000)
    """Model calls of a run at most."""
    run_deadline_s: float = Field(default=300.0, gt=0, le=86_400)
    """Wall clock of a run at most, seconds."""
    allowed_origins: tuple[str, ...] = ()
    """Web origins besides the gateway's own whose pages may call it, e.g. `http://localhost:3000`."""
