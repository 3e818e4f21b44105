"""The services behind the gateway, as ports."""

from dataclasses import dataclass

from services.contracts.planner import Limits, Planner, RunControl, RunKeeper
from services.contracts.retriever import Retriever
from services.contracts.toolenv import ToolEnv


@dataclass(frozen=True, slots=True)
class Backends:
    """What the routes call; in one process direct objects, else HTTP clients."""

    planner: Planner
    retriever: Retriever
    toolenv: ToolEnv
    limits: Limits
    """Budgets of every run that comes in from outside."""
    max_concurrent_runs: int
    control: RunControl | None = None
    """Acts on runs that are going on; `None` where the planner cannot be told anything."""
    keeper: RunKeeper | None = None
    """Has the runs that were kept; `None` where none are."""
