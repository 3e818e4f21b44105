"""Decisions that runs wait for: somebody outside says whether a call may be made."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.contracts.errors import NotFound
from services.contracts.ids import RunId


class Approvals:
    """The calls of all runs that wait for a decision. For one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[RunId, int], asyncio.Future[bool]] = {}

    @contextmanager
    def register(self, run_id: RunId, call_id: int) -> Iterator[asyncio.Future[bool]]:
        """A decision that can be given while the block runs.

        Args:
            run_id: The run.
            call_id: The call, see `ApprovalAsked`; no other one of the run may wait under it.
        """
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[run_id, call_id] = decision
        try:
            yield decision
        finally:
            del self._waiting[run_id, call_id]
            decision.cancel()  # nobody reads it any more

    def decide(self, run_id: RunId, call_id: int, *, approve: bool) -> None:
        """See `RunControl.decide`.

        Raises:
            NotFound: No such call waits, or it was decided before.
        """
        decision = self._waiting.get((run_id, call_id))
        if decision is None or decision.done():
            raise NotFound(f"call {call_id} of run {run_id!r} does not wait for a decision")
        decision.set_result(approve)
