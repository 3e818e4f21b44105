"""Settings of the evaluator, prefix `EVALUATOR_`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServedSettings


class EvaluatorSettings(ServedSettings):
    """Read from `EVALUATOR_*`; home folder and Redis come from `SharedSettings`."""

    model_config = SettingsConfigDict(env_prefix="EVALUATOR_", frozen=True, extra="ignore")

    port: int = Field(default=8005, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    planner_url: str = "http://planner:8000"
    """Base URL of the planner."""
    planner_socket: Path | None = None
    """Unix socket on which the planner is reached instead (embedded mode)."""
    redelivery_s: float = Field(default=180.0, ge=1)
    """Seconds after which a sample whose whole worker vanished is delivered again. A run that
    takes longer is not solved twice, its second delivery waits for the lease."""
    lease_s: float = Field(default=10.0, ge=0.5)
    """Seconds for which the lease on a sample outlives its worker process."""
    max_deliveries: int = Field(default=3, ge=1)
    """Lost worker processes after which a sample is recorded as an infrastructure error."""
    retry_s: float = Field(default=2.0, gt=0)
    """Pause before a sample is tried again whose planner is away or full, or whose lease is
    held."""
    max_failures: int = Field(default=60, ge=0)
    """Attempts that may meet a planner which is away or full, `retry_s` apart at least."""
    max_queued: int = Field(default=20_000, ge=1)
    """Samples that one campaign may put into the queue."""
