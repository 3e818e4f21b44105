"""What every way of executing a call has in common."""

from dataclasses import dataclass
from typing import Protocol

from services.contracts.toolenv import CallSource, Observation
from services.toolenv.invocation import Invocation


@dataclass(frozen=True, slots=True)
class Declined:
    """This executor cannot serve the call, and has sent nothing anywhere."""

    reason: str
    """For the model and the operator: what is missing."""


class Executor(Protocol):
    """One way to obtain an answer. Safe to call concurrently."""

    @property
    def source(self) -> CallSource:
        """What its answers are labelled with."""
        ...

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        """Execute one call before the request's deadline.

        Returns:
            The observation; a failing tool is one whose status is not `OK`. `Declined` when the
            next executor may be asked because nothing has happened yet.

        Raises:
            Unavailable: Nothing can be executed now, whatever the API.
            DeadlineExceeded: The request's deadline had passed before the call began.
        """
        ...
