"""Continuous batching over a model that counts: slots, joins, leaves, failures."""

import threading
import time
from collections.abc import Sequence

import pytest

from services.contracts.errors import (
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.contracts.llm import CompletionDelta
from services.llm.dialects.react_text import ReactTextParser
from services.llm.engines.generation import Choice, Generation
from services.llm.engines.scheduler import Row, Scheduler
from services.llm.engines.vocabulary import TokenVocabulary

_WAIT_S = 5.0
_LETTERS = [None, *(bytes([code]) for code in b"abcdefghijklmnopqrstuvwxyz")]
VOCABULARY = TokenVocabulary(pieces=_LETTERS, pieces_after_alphanumeric=_LETTERS, end_ids=[0])


class NextLetter:
    """A model whose next token is the last one plus one; it remembers what it was asked."""

    def __init__(self, n_slots: int = 3) -> None:
        self.n_slots = n_slots
        self.prefills: list[tuple[int, int, int]] = []
        self.batch_sizes: list[int] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.defect: Exception | None = None

    def prefill(self, slot: int, ids: Sequence[int], *, n_kept: int, choice: Choice) -> int:
        assert self.may_run.wait(_WAIT_S)
        self.prefills.append((slot, len(ids), n_kept))
        return (ids[-1] + 1) % 27

    def decode(self, rows: Sequence[Row]) -> list[int]:
        if self.defect is not None:
            raise self.defect
        time.sleep(0.002)
        self.batch_sizes.append(len(rows))
        return [(row.token_id + 1) % 27 for row in rows]


class Caller:
    """Collects what is emitted."""

    def __init__(self) -> None:
        self.pieces: list[CompletionDelta | ServiceError] = []
        self._ended = threading.Event()

    def take(self, piece: CompletionDelta | ServiceError) -> None:
        self.pieces.append(piece)
        if isinstance(piece, ServiceError) or piece.completion is not None:
            self._ended.set()

    def last(self) -> CompletionDelta | ServiceError:
        assert self._ended.wait(_WAIT_S)
        return self.pieces[-1]

    def text(self) -> str | None:
        last = self.last()
        assert isinstance(last, CompletionDelta)
        assert last.completion is not None
        return last.completion.raw_text


def generation(caller: Caller, prompt: Sequence[int], **changes: object) -> Generation:
    options = {
        "max_new_tokens": 100,
        "vocabulary": VOCABULARY,
        "stop_ids": [0],
        "parser": ReactTextParser(call_id="call_0"),
        "deadline": time.monotonic() + _WAIT_S,
    }
    return Generation(prompt_ids=prompt, emit=caller.take, **(options | changes))


@pytest.fixture
def model() -> NextLetter:
    return NextLetter()


@pytest.fixture
def scheduler(model: NextLetter):
    scheduler = Scheduler(model, max_queue=8)
    yield scheduler
    model.may_run.set()
    scheduler.close()
    assert not scheduler.is_alive


def test_replies_of_different_lengths_share_steps_and_keep_their_texts(
    model: NextLetter, scheduler: Scheduler
) -> None:
    callers = [Caller() for _ in range(8)]
    model.may_run.clear()
    for number, caller in enumerate(callers):
        scheduler.submit(generation(caller, [1 + 2 * number]))
    model.may_run.set()
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    assert [caller.text() for caller in callers] == [alphabet[1 + 2 * n :] for n in range(8)]
    assert max(model.batch_sizes) == 3


def test_a_prompt_that_goes_on_reads_only_what_is_new(
    model: NextLetter, scheduler: Scheduler
) -> None:
    prompt = [5] * 30
    first, other, second = Caller(), Caller(), Caller()
    scheduler.submit(generation(first, prompt, max_new_tokens=4))
    assert first.text() == "fghi"
    scheduler.submit(generation(other, [7] * 30, max_new_tokens=1))
    assert other.text() == "h"
    scheduler.submit(generation(second, [*prompt, 6, 7, 8, 1, 2], max_new_tokens=1))
    assert second.text() == "c"
    assert model.prefills == [(0, 30, 0), (1, 30, 0), (0, 35, 33)]


def test_a_full_queue_refuses(model: NextLetter, scheduler: Scheduler) -> None:
    model.may_run.clear()
    callers = [Caller() for _ in range(9)]
    for caller in callers[:1]:
        scheduler.submit(generation(caller, [20]))
    while scheduler._waiting:
        time.sleep(0.001)
    for caller in callers[1:]:
        scheduler.submit(generation(caller, [20]))
    with pytest.raises(ResourceExhausted, match="limit is 8"):
        scheduler.submit(generation(Caller(), [20]))
    model.may_run.set()
    assert [caller.text() for caller in callers] == ["uvwxyz"] * 9


def test_a_reply_past_its_deadline_is_given_up(scheduler: Scheduler) -> None:
    caller = Caller()
    endless = generation(caller, [1], stop_ids=[], deadline=time.monotonic() + 0.05)
    endless._max_new_tokens = 10**9
    scheduler.submit(endless)
    assert isinstance(caller.last(), DeadlineExceeded)


def test_a_cancelled_reply_frees_its_slot(model: NextLetter, scheduler: Scheduler) -> None:
    endless = [generation(Caller(), [1], stop_ids=[], max_new_tokens=10**9) for _ in range(3)]
    for item in endless:
        scheduler.submit(item)
    waiting = Caller()
    scheduler.submit(generation(waiting, [24]))
    for item in endless:
        item.is_cancelled = True
    assert waiting.text() == "yz"


def test_a_broken_step_fails_its_replies_and_not_the_next(
    model: NextLetter, scheduler: Scheduler
) -> None:
    broken, healthy = Caller(), Caller()
    model.defect = RuntimeError("bad kernel")
    scheduler.submit(generation(broken, [1]))
    error = broken.last()
    model.defect = None
    scheduler.submit(generation(healthy, [24]))
    assert isinstance(error, Internal)
    assert healthy.text() == "yz"


class BrokenParser(ReactTextParser):
    """Fails at its third piece of text."""

    def feed(self, text: str) -> None:
        if len(self._text) >= 2:
            raise ValueError("a defect")
        super().feed(text)


def test_a_parser_that_breaks_fails_its_own_reply_only(
    model: NextLetter, scheduler: Scheduler
) -> None:
    broken, healthy, later = Caller(), Caller(), Caller()
    model.may_run.clear()
    scheduler.submit(generation(broken, [1], parser=BrokenParser(call_id="call_0")))
    scheduler.submit(generation(healthy, [10]))
    model.may_run.set()
    assert isinstance(broken.last(), Internal)
    assert healthy.text() == "klmnopqrstuvwxyz"
    scheduler.submit(generation(later, [24]))
    assert later.text() == "yz"


class BrokenCursor:
    """A constraint that cannot say which tokens are allowed."""

    def allowed(self) -> frozenset[int]:
        raise ValueError("a defect")


def test_a_constraint_that_breaks_fails_its_own_reply_only(
    model: NextLetter, scheduler: Scheduler
) -> None:
    broken, healthy = Caller(), Caller()
    model.may_run.clear()
    scheduler.submit(generation(broken, [1], cursor=BrokenCursor()))
    scheduler.submit(generation(healthy, [20]))
    model.may_run.set()
    assert isinstance(broken.last(), Internal)
    assert healthy.text() == "uvwxyz"


def test_closing_fails_what_is_unfinished(model: NextLetter, scheduler: Scheduler) -> None:
    caller = Caller()
    scheduler.submit(generation(caller, [1], stop_ids=[], max_new_tokens=10**9))
    scheduler.close()
    assert isinstance(caller.last(), Unavailable)
    with pytest.raises(Unavailable):
        scheduler.submit(generation(Caller(), [1]))


def test_text_is_streamed_but_never_a_stop_text(scheduler: Scheduler) -> None:
    caller = Caller()
    scheduler.submit(generation(caller, [1], stop=("hij",), wants_text=True))
    assert caller.text() == "bcdefg"
    deltas = [piece.text for piece in caller.pieces if isinstance(piece, CompletionDelta)]
    assert "".join(deltas) == "bcdefg"
    assert len(deltas) > 3


def test_a_cut_reply_says_length(scheduler: Scheduler) -> None:
    caller = Caller()
    scheduler.submit(generation(caller, [1], max_new_tokens=2))
    last = caller.last()
    assert isinstance(last, CompletionDelta)
    assert last.completion is not None
    assert last.completion.finish_reason == "length"
    assert last.completion.usage.completion_tokens == 2
