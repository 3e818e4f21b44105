"""Answers calls from the record, and keeps new answers there.

What is replayed was a real answer once: simulated answers and failures of the infrastructure are
never recorded, so a run offline sees what the APIs said, or a miss that names the call.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

import structlog

from services.contracts.context import remaining_s
from services.contracts.errors import DeadlineExceeded, ServiceError
from services.contracts.toolenv import CallSource, CallStatus, Observation, ObservationSource
from services.toolenv.cassettes.key import canonical
from services.toolenv.cassettes.recording import Answer, Miss, recording_of
from services.toolenv.cassettes.store import Store, age_s
from services.toolenv.executors.base import Declined
from services.toolenv.invocation import Invocation

log = structlog.get_logger()

RECORDED_STATUSES: Final = frozenset({CallStatus.OK, CallStatus.TOOL_ERROR})
"""Outcomes that say something about the API; all others say something about the moment."""


class Shelf(Protocol):
    """Recorded answers by key: a `Store` or a `Snapshot`."""

    def find(self, key: str) -> Answer | None:
        """The answer recorded under a key, in microseconds."""
        ...


class ReplayExecutor:
    """See `Executor`; a hit is labelled with who gave the answer and how old it is."""

    source: CallSource = "replay"

    def __init__(
        self,
        shelves: Sequence[Shelf],
        *,
        misses: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Look in several places; whoever opened them closes them.

        Args:
            shelves: Asked in order, snapshots before the live store.
            misses: Where calls that nobody recorded are listed; `None` only counts them.
            clock: Unix time, seconds.
        """
        self._shelves = tuple(shelves)
        self._misses = misses
        self._clock = clock
        self.n_hits = 0
        self.n_misses = 0

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        """See `Executor.execute`; a record that cannot be read declines, and is logged."""
        key = invocation.key
        if key is None:
            return Declined(f"the call has no address: {invocation.problem}")
        started = time.perf_counter()
        problem = ""
        for shelf in self._shelves:
            try:
                answer = shelf.find(key)
                if answer is not None:
                    replayed = self._replayed(answer, key, latency_s=time.perf_counter() - started)
                    self.n_hits += 1
                    return replayed
            except (ServiceError, ValueError) as exc:  # or its row was changed by hand
                problem = f"; the record cannot be read: {exc}"
                log.error("replay_failed", key=key, error=str(exc))
        self._note_miss(invocation, key)
        return Declined(f"no recording of {invocation.entry.document.ref}, key {key}{problem}")

    def _replayed(self, answer: Answer, key: str, *, latency_s: float) -> Observation:
        return Observation(
            status=answer.status,
            content=answer.content,
            source="replay",
            latency_s=latency_s,
            upstream_status=answer.upstream_status,
            key=key,
            age_s=age_s(answer.recorded_at, clock=self._clock),
            recorded_source=answer.source,
        )

    def _note_miss(self, invocation: Invocation, key: str) -> None:
        self.n_misses += 1
        if self._misses is None:
            return
        ref = invocation.entry.document.ref
        arguments = canonical(invocation.arguments).decode()
        miss = Miss(key, ref.category, ref.tool, ref.api, arguments, 1, self._clock())
        if not self._misses.note_miss(miss):
            log.warning("miss_not_listed", key=key, api=str(ref))


class CassetteRecorder:
    """See `Recorder` in `services.toolenv.chain`."""

    def __init__(
        self,
        store: Store,
        *,
        sources: Collection[ObservationSource] = ("live", "remote"),
        timeout_s: float = 5.0,
        is_personal: Callable[[Invocation], bool] = lambda _: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Record into a store; whoever opened it closes it.

        Args:
            store: Where answers are kept.
            sources: Whose answers are kept.
            timeout_s: Longest time that an answer waits to be recorded, seconds; the request's
                deadline may shorten it. It is recorded all the same, but not reported so.
            is_personal: Whether an answer is for its user only, because the call may have been sent
                with a secret of theirs; it is not kept, for a recording answers everybody.
            clock: Unix time, seconds.

        Raises:
            ValueError: `sources` names `simulated`, `replay` or `error`, which are no answers of
                an API.
        """
        unreal = sorted(set(sources) & {"simulated", "replay", "error"})
        if unreal:
            raise ValueError(f"answers of source {unreal[0]!r} are never recorded as real ones")
        self._store = store
        self._sources = frozenset(sources)
        self._timeout_s = timeout_s
        self._is_personal = is_personal
        self._clock = clock

    def wants(self, observation: Observation) -> bool:
        """See `Recorder.wants`."""
        return observation.source in self._sources and observation.status in RECORDED_STATUSES

    async def record(self, invocation: Invocation, observation: Observation) -> bool:
        """See `Recorder.record`; `False` too when a good answer is kept instead of this error."""
        if not self.wants(observation) or invocation.arguments is None:
            return False
        try:
            if self._is_personal(invocation):
                return False
        except ServiceError as exc:  # the credentials cannot be read, so nobody knows
            log.error("recording_failed", key=invocation.key, error=exc.detail)
            return False
        answer = Answer(
            observation.content,
            observation.status,
            observation.source,
            observation.upstream_status,
            observation.latency_s,
            self._clock(),
        )
        ref = invocation.entry.document.ref
        try:
            recording = recording_of(ref, invocation.arguments, answer)
            return await self._store.put(recording, timeout_s=self._patience_s())
        except ServiceError as exc:
            log.error("recording_failed", api=str(ref), key=invocation.key, error=exc.detail)
            return False

    def _patience_s(self) -> float:
        try:
            return remaining_s(at_most_s=self._timeout_s)
        except DeadlineExceeded:
            return 0.0
