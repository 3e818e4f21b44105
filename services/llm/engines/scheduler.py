"""Continuous batching: one thread runs the model on all replies in the making, one token a step.

Each reply has a slot, which holds the keys and values of its tokens. A reply joins or leaves the
batch between two steps. A freed slot keeps its tokens, so that a later prompt that begins with the
same ones is not read again.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import structlog

from services.contracts.errors import Internal, ResourceExhausted, Unavailable
from services.llm.engines.generation import Choice, Generation

_CLOSE_TIMEOUT_S = 10.0  # far above one step
_LEAST_PREFIX_TOKENS = 16  # below this, reuse saves less than evicting an older prefix may cost

log = structlog.get_logger()


class Row(NamedTuple):
    """One slot's part in a step: the token to add, and how the next one is chosen."""

    slot: int
    token_id: int
    position: int
    choice: Choice


class SlotModel(Protocol):
    """A model with room for a fixed number of token sequences. Used by one thread only."""

    @property
    def n_slots(self) -> int:
        """Number of sequences."""
        ...

    def prefill(self, slot: int, ids: Sequence[int], *, n_kept: int, choice: Choice) -> int:
        """Put a prompt into a slot and choose the next token.

        Args:
            slot: Which sequence; its first `n_kept` tokens are those of `ids` already.
            ids: The whole prompt.
            n_kept: Less than the length of `ids`.
            choice: How the token is chosen.
        """
        ...

    def decode(self, rows: Sequence[Row]) -> list[int]:
        """Add one token to each of several slots and choose the next ones, in the same order."""
        ...


@dataclass(slots=True)
class _Slot:
    ids: list[int] = field(default_factory=list)
    """Tokens whose keys and values are in the model."""
    last_used: int = 0
    generation: Generation | None = None
    next_id: int = 0
    """Token that was chosen and not yet added."""


class Scheduler:
    """Owns the model's thread. `submit` may be called from any thread."""

    def __init__(self, model: SlotModel, *, max_queue: int) -> None:
        """Start the thread.

        Args:
            model: Used by no one else.
            max_queue: Most replies that wait for a slot.
        """
        self._model = model
        self._max_queue = max_queue
        self._slots = [_Slot() for _ in range(model.n_slots)]
        self._waiting: deque[Generation] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._clock = 0
        self._thread = threading.Thread(target=self._run, name="llm-model", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation) -> None:
        """Queue a reply.

        Raises:
            ResourceExhausted: `max_queue` replies wait already.
            Unavailable: The scheduler is closed.
        """
        with self._changed:
            if self._is_closed:
                raise Unavailable("the model is shut down")
            if len(self._waiting) >= self._max_queue:
                raise ResourceExhausted(
                    f"{len(self._waiting)} requests wait for the model, the limit is "
                    f"{self._max_queue}; try again later or raise LLM_MAX_QUEUE"
                )
            self._waiting.append(generation)
            self._changed.notify()

    def close(self) -> None:
        """Stop after the current step and fail what is unfinished; may be called twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_TIMEOUT_S)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._admit()
                self._step()
            except Exception as exc:  # the worker loop outlives a broken step
                log.error("model_step_failed", exc_info=exc)
                self._fail_all(Internal("the model failed; the log has the reason"))
        self._fail_all(Unavailable("the model is shut down"))

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or bool(self._waiting) or bool(self._active())
            )
            return not self._is_closed

    def _active(self) -> list[int]:
        return [n for n, slot in enumerate(self._slots) if slot.generation is not None]

    def _admit(self) -> None:
        """Give waiting replies a slot and read their prompts."""
        while len(self._active()) < len(self._slots):
            with self._changed:
                if not self._waiting:
                    return
                generation = self._waiting.popleft()
            if not generation.is_abandoned():
                self._start(generation)

    def _start(self, generation: Generation) -> None:
        number, n_kept = self._best_slot(generation.prompt_ids)
        slot = self._slots[number]
        slot.generation, slot.ids = generation, []  # empty should the model fail in the middle
        choice = self._choice(slot)
        if choice is None:
            return
        token = self._model.prefill(number, generation.prompt_ids, n_kept=n_kept, choice=choice)
        slot.ids = list(generation.prompt_ids)
        self._take(slot, token)

    def _best_slot(self, ids: Sequence[int]) -> tuple[int, int]:
        """The free slot that knows most of the prompt, else the one idle for longest."""
        free = [n for n, slot in enumerate(self._slots) if slot.generation is None]
        n_known = {n: min(_common_prefix(self._slots[n].ids, ids), len(ids) - 1) for n in free}
        best = max(free, key=lambda n: n_known[n])
        if n_known[best] < _LEAST_PREFIX_TOKENS:
            best = min(free, key=lambda n: self._slots[n].last_used)
        return best, n_known[best]

    def _step(self) -> None:
        """One token for each reply in the making."""
        for number in self._active():
            slot = self._slots[number]
            if slot.generation is not None and slot.generation.is_abandoned():
                self._release(slot)
        rows = [row for number in self._active() if (row := self._row(number)) is not None]
        if not rows:
            return
        for row, token in zip(rows, self._model.decode(rows), strict=True):
            slot = self._slots[row.slot]
            slot.ids.append(row.token_id)
            self._take(slot, token)

    def _row(self, number: int) -> Row | None:
        slot = self._slots[number]
        choice = self._choice(slot)
        return None if choice is None else Row(number, slot.next_id, len(slot.ids), choice)

    def _choice(self, slot: _Slot) -> Choice | None:
        """How the slot's next token is chosen; `None` when its reply has just failed."""
        assert slot.generation is not None
        try:
            return slot.generation.choice()
        except Exception as exc:  # a reply's own constraint must not fail the batch
            log.error("reply_failed", exc_info=exc)
            self._fail(slot)
            return None

    def _take(self, slot: _Slot, token: int) -> None:
        slot.next_id = token
        if slot.generation is None:
            return
        try:
            is_whole = slot.generation.accept(token)
        except Exception as exc:  # a reply's own parser must not fail the batch
            log.error("reply_failed", exc_info=exc)
            self._fail(slot)
            return
        if is_whole:
            self._release(slot)

    def _fail(self, slot: _Slot) -> None:
        """End one reply whose own reading broke; its tokens stay usable as a prefix."""
        if slot.generation is not None:
            slot.generation.fail(Internal("the reply could not be read; the log has the reason"))
        self._release(slot)

    def _release(self, slot: _Slot) -> None:
        self._clock += 1
        slot.generation, slot.last_used = None, self._clock

    def _fail_all(self, error: Internal | Unavailable) -> None:
        with self._changed:
            waiting, self._waiting = list(self._waiting), deque()
        for generation in waiting:
            generation.fail(error)
        for slot in self._slots:
            if slot.generation is not None:
                slot.generation.fail(error)
                slot.generation, slot.ids = None, []


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
