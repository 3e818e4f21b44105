"""What every way of executing a call has in common."""

from typing import Protocol

from services.contracts.toolenv import Observation
from services.toolenv.catalog import CatalogueEntry


class Executor(Protocol):
    """One way to execute calls. Safe to call concurrently."""

    def refusal(self, api: CatalogueEntry) -> str | None:
        """Why this executor cannot run an API, for the model to read; `None` when it can."""
        ...

    async def execute(self, api: CatalogueEntry, arguments_text: str) -> Observation:
        """Execute one call before the request's deadline.

        Args:
            api: An API that `refusal` has no objection to.
            arguments_text: The model's text, verbatim.

        Returns:
            The observation; a failing tool is one whose status is not `OK`.

        Raises:
            Unavailable: Nothing can be executed now, whatever the API.
            DeadlineExceeded: The request's deadline had passed before the call began.
        """
        ...
