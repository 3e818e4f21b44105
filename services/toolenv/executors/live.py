"""Calls the API itself, over whatever its endpoint speaks."""

from collections.abc import Mapping
from typing import Protocol

from services.contracts.toolenv import CallSource, CallStatus, Observation
from services.toolenv.endpoints import Endpoint
from services.toolenv.executors.base import Declined
from services.toolenv.invocation import Invocation, check_names
from services.toolenv.observation import failed


class Caller(Protocol):
    """Speaks one kind of endpoint. Safe to call concurrently."""

    async def call(self, invocation: Invocation) -> Observation | Declined:
        """See `Executor.execute`; the entry's endpoint is of this caller's kind.

        The invocation has arguments, all of them declared by the document; they are named in
        standard form (`contracts.toolbench.names.api_identifier`).
        """
        ...


class LiveExecutor:
    """See `Executor`; chooses the caller by the kind of the API's endpoint."""

    source: CallSource = "live"

    def __init__(self, callers: Mapping[type[Endpoint], Caller]) -> None:
        """Bind one caller per kind of endpoint; whoever opened them closes them."""
        self._callers = dict(callers)

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        """See `Executor.execute`."""
        endpoint = invocation.entry.endpoint
        if endpoint is None:
            return Declined(f"{invocation.entry.document.ref} names no address to call")
        caller = self._callers.get(type(endpoint))
        if caller is None:
            return Declined(f"nothing here speaks to a {type(endpoint).__name__}")
        problem = invocation.problem or check_names(invocation)
        if problem:
            return failed(CallStatus.INVALID_ARGUMENTS, f"Tool input parse error: {problem}")
        return await caller.call(invocation)
