"""Settings of the planner."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from services.kit.settings import ServedSettings


def _at_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


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
    """Runs that work at the same time; others wait, users in turn."""
    max_waiting_runs: int = Field(default=256, ge=0, le=100_000)
    """Runs that may wait; one more is refused with 429."""
    max_deadline_s: float = Field(default=3600.0, gt=0, le=86_400)
    """Cap on a run's wall clock, seconds."""
    max_reply_tokens: int = Field(default=512, ge=1, le=32_768)
    """Longest reply asked of the model, tokens."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature."""
    usd_per_million_prompt_tokens: float | None = Field(default=None, ge=0)
    """Price of the model's prompt tokens, US dollars per million. Unset, and with the next one
    unset, runs tell no cost and `max_cost_usd` is refused."""
    usd_per_million_completion_tokens: float | None = Field(default=None, ge=0)
    """Price of the model's reply tokens, US dollars per million."""
    approval_timeout_s: float = Field(default=300.0, gt=0, le=86_400)
    """Longest wait for a decision about a call that needs approval, seconds; then it is refused."""
    stream_model: bool = True
    """Pass replies on while they are written."""
    keep_runs: int = Field(default=1_000, ge=0, le=1_000_000)
    """Newest runs whose every model call and observation is kept, about; 0 keeps none, and then no
    run can be replayed, resumed or forked."""
    keep_runs_bytes: int = Field(default=1 << 30, ge=1)
    """Size of all kept runs together, bytes, about; the oldest make room."""
    searches: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_at_commas)] = ()
    """Search methods of your own: paths of Python files or names of modules, separated by commas.
    They run in the planner's process; see docs/guides/add-a-search.md."""
    connections: int = Field(default=256, ge=1, le=4096)
    """Open connections to each service."""
