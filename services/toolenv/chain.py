"""Asks the sources of a call in order, and labels the answer with who gave it.

An executor that declines has sent nothing, so the next one is asked. Once a real executor has
tried, its failure stands: no other real one repeats the call, which may have had its effect. Only a
recording or a simulation, which have no effects, may still step in, and only where the chain names
them after it; the observation then says so and keeps the failure among its attempts.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from services.contracts.toolenv import Attempt, CallSource, CallStatus, Observation
from services.toolenv.executors.base import Declined, Executor
from services.toolenv.invocation import Invocation
from services.toolenv.observation import failed

_WITHOUT_EFFECTS: Final[frozenset[CallSource]] = frozenset({"replay", "simulated"})
_MAX_REASON_CHARS: Final = 500
_UNANSWERED: Final = frozenset(
    {
        CallStatus.TIMEOUT,
        CallStatus.API_NOT_WORKING,
        CallStatus.UNAUTHORIZED,
        CallStatus.UNSUBSCRIBED,
        CallStatus.BLOCKED,
        CallStatus.TOO_MANY_REQUESTS,
        CallStatus.RATE_LIMITED,
        CallStatus.REQUEST_FAILED,
    }
)
"""The API gave no answer of its own; a recorded or simulated one is better than none."""


class Recorder(Protocol):
    """Keeps answers for later replay."""

    def wants(self, observation: Observation) -> bool:
        """Whether such an answer is kept at all."""
        ...

    async def record(self, invocation: Invocation, observation: Observation) -> bool:
        """Keep one answer; `False` when that failed, which is logged and not raised."""
        ...


class Chain:
    """The executors of a service, and the order in which they are asked by default."""

    def __init__(
        self,
        executors: Sequence[Executor],
        *,
        order: Sequence[CallSource] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Bind the executors; whoever opened them closes them.

        Args:
            executors: At most one per source.
            order: Sources asked when a call names none; that of `executors` by default.
            recorder: Keeps answers; `None` keeps none.

        Raises:
            ValueError: There is no executor, or two have the same source.
        """
        self._executors = {executor.source: executor for executor in executors}
        if not executors or len(self._executors) != len(executors):
            raise ValueError("a chain needs at least one executor, and at most one per source")
        self._order = tuple(order if order is not None else self._executors)
        self._recorder = recorder

    async def execute(
        self, invocation: Invocation, sources: Sequence[CallSource] | None = None
    ) -> Observation:
        """Execute one call before the request's deadline.

        Args:
            invocation: The call.
            sources: Who may answer, preferred first; the default order when `None`.

        Returns:
            The observation with `key` and `attempts`; status `API_NOT_WORKING` with every reason
            when nobody could try.

        Raises:
            Unavailable: An executor cannot work now, whatever the API.
            DeadlineExceeded: The request's deadline had passed before the call began.
        """
        attempts: list[Attempt] = []
        failure: Observation | None = None
        for source in sources or self._order:
            if failure is not None and source not in _WITHOUT_EFFECTS:
                continue
            answer = await self._ask(source, invocation)
            if isinstance(answer, Declined):
                attempts.append(Attempt(source=source, reason=answer.reason))
            elif answer.status in _UNANSWERED and failure is None:
                failure = _labelled(answer, source, invocation, attempts)
                attempts.append(_attempt(source, answer))
            elif answer.status in _UNANSWERED:
                attempts.append(_attempt(source, answer))
            else:
                answer = await self._recorded(invocation, answer)
                return _labelled(answer, source, invocation, attempts)
        if failure is not None:
            return failure
        reasons = "; ".join(f"{attempt.source}: {attempt.reason}" for attempt in attempts)
        nobody = failed(CallStatus.API_NOT_WORKING, f"API not working: {reasons}")
        return _labelled(nobody, None, invocation, attempts)

    async def _ask(self, source: CallSource, invocation: Invocation) -> Observation | Declined:
        executor = self._executors.get(source)
        if executor is None:
            return Declined("this service has it switched off")
        return await executor.execute(invocation)

    async def _recorded(self, invocation: Invocation, answer: Observation) -> Observation:
        recorder = self._recorder
        if recorder is None or invocation.key is None or not recorder.wants(answer):
            return answer
        is_recorded = await recorder.record(invocation, answer)
        return answer.model_copy(update={"is_recorded": is_recorded})


def _attempt(source: CallSource, answer: Observation) -> Attempt:
    return Attempt(source=source, reason=answer.content[:_MAX_REASON_CHARS], status=answer.status)


def _labelled(
    answer: Observation,
    source: CallSource | None,
    invocation: Invocation,
    attempts: Sequence[Attempt],
) -> Observation:
    labels = {"key": invocation.key, "tried": source, "attempts": tuple(attempts)}
    return answer.model_copy(update=labels)
