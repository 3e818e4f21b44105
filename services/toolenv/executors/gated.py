"""Bounds how many calls one executor runs at a time and how many wait for it."""

from services.contracts.toolenv import CallSource, Observation
from services.toolenv.admission import Admission
from services.toolenv.executors.base import Declined, Executor
from services.toolenv.invocation import Invocation


class GatedExecutor:
    """An executor behind an `Admission`."""

    def __init__(self, executor: Executor, admission: Admission) -> None:
        self._executor = executor
        self._admission = admission

    @property
    def source(self) -> CallSource:
        """See `Executor.source`."""
        return self._executor.source

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        """See `Executor.execute`.

        Raises:
            ResourceExhausted: Too many calls wait already.
        """
        async with self._admission.enter():
            return await self._executor.execute(invocation)
