"""Chooses who executes a call: the first executor, in the configured order, that can run the API.

The choice is made before anything runs. A call that fails is never handed to the next executor, so
an answer is never silently replaced by one from another source.
"""

from collections.abc import Sequence
from enum import StrEnum

from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.executors.base import Executor
from services.toolenv.observation import failed


class ExecutorName(StrEnum):
    """Executors that a setting may name."""

    CUSTOM = "custom"
    REMOTE = "remote"


class Chain:
    """An executor made of others."""

    def __init__(self, executors: Sequence[Executor]) -> None:
        """Use `executors`, preferred first; at least one.

        Raises:
            ValueError: There is none.
        """
        if not executors:
            raise ValueError("a chain needs at least one executor")
        self._executors = tuple(executors)

    def refusal(self, api: CatalogueEntry) -> str | None:
        """See `Executor.refusal`; every executor's reason when none can run the API."""
        reasons = []
        for executor in self._executors:
            reason = executor.refusal(api)
            if reason is None:
                return None
            reasons.append(reason)
        return "; ".join(reasons)

    async def execute(self, api: CatalogueEntry, arguments_text: str) -> Observation:
        """See `Executor.execute`; an API that nobody can run gives `API_NOT_WORKING`."""
        for executor in self._executors:
            if executor.refusal(api) is None:
                return await executor.execute(api, arguments_text)
        return failed(CallStatus.API_NOT_WORKING, f"API not working: {self.refusal(api)}")
