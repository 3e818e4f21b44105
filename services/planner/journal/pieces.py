"""Where the pieces of replies that come side by side stand among a run's other events.

A replay has a reply's pieces all at once, and the run heard them as they came. The order of all
other events is the turnstile's.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from services.contracts.planner import ModelDelta, PlanEvent, RunEnded


class Mark(NamedTuple):
    """Where one piece stands."""

    n_others: int
    """Other events between it and the piece before it."""
    expansion: int
    """Whose reply it is a part of."""


class Marks:
    """Notes where pieces stand while a run is told."""

    def __init__(self) -> None:
        self._n_others = 0
        self._new: list[Mark] = []

    def note(self, event: PlanEvent) -> None:
        """Take notice of the next event."""
        if isinstance(event, ModelDelta):
            self._new.append(Mark(self._n_others, event.expansion))
            self._n_others = 0
        else:
            self._n_others += 1

    def taken(self) -> list[Mark]:
        """Those since the last time."""
        new, self._new = self._new, []
        return new


class InOrder:
    """Holds the events of a replay back until it is their turn."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        """Begin with the record's marks; without any, every event is told at once."""
        self._order = deque[int]()
        for mark in marks:
            self._order += [0] * mark.n_others + [mark.expansion]
        self._early: dict[int, deque[tuple[int, PlanEvent]]] = defaultdict(deque)
        self._n_taken = 0

    def due(self, event: PlanEvent) -> Iterator[PlanEvent]:
        """Take in the next event of the replay; what is to be told now."""
        self._n_taken += 1
        key = event.expansion if isinstance(event, ModelDelta) else 0
        self._early[key].append((self._n_taken, event))
        while self._order and self._early[self._order[0]]:
            yield self._early[self._order.popleft()].popleft()[1]
        if not self._order or isinstance(event, RunEnded):
            rest = sorted(
                (each for early in self._early.values() for each in early), key=lambda each: each[0]
            )
            self._early.clear()
            yield from (each for _, each in rest)
