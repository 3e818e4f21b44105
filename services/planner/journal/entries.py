"""What a journal holds, and how it is read back."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from pydantic import JsonValue, ValidationError

from services.contracts.base import ForeignModel
from services.contracts.errors import FailedPrecondition, NotFound, Problem, Unavailable
from services.contracts.ids import RunId
from services.contracts.planner import RunEnded, SolveRequest
from services.planner.journal.file import open_at_once
from services.planner.journal.lines import Line, whole_lines
from services.planner.journal.pieces import Mark
from services.planner.trunk import TrunkRecord

FORMAT: Final = 1
_FINAL_PROBLEMS: Final = frozenset({"invalid_argument", "not_found"})
"""Refusals of the request itself: a search has dealt with them, and would be refused again."""

Port = Literal["retrieve", "describe", "about", "model", "tool", "approve"]
"""Which of a run's ports was asked."""


@cache
def planner_version() -> str:
    """Of the planner that writes journals now; looking it up reads files."""
    return version("toolwright")


class Header(ForeignModel):
    """First line: everything that decides the run, but for what it is told from outside."""

    kind: Literal["header"] = "header"
    format: int = FORMAT
    planner: str
    run_id: RunId
    started_at: float
    """Unix seconds."""
    request: SolveRequest
    options: dict[str, JsonValue] = {}
    """The operator's decisions, by name."""
    prompts: str | None = None
    """Fingerprint of the prompt profile's texts."""
    forked_from: RunId | None = None
    forked_node: int | None = None
    trunk: TrunkRecord | None = None
    """What a forked run starts with."""


class Answer(ForeignModel):
    """What a port answered: exactly one of `value` and `problem` is set."""

    kind: Port
    key: str
    n: int
    """Which of the equal requests it answers, in the order of asking, from 1."""
    latency_s: float = 0.0
    value: JsonValue = None
    problem: Problem | None = None
    pieces: tuple[str, ...] | None = None
    """Of a reply that was passed on while it was written; `None` when it came whole."""


class Left(ForeignModel):
    """A request whose answer the run did not wait for: it ended, or went another way."""

    port: Port
    key: str
    n: int
    """See `Answer.n`."""
    pieces: tuple[str, ...] = ()
    """That had come of a reply until then."""


class End(ForeignModel):
    """Last line of a run that ended."""

    kind: Literal["end"] = "end"
    event: RunEnded
    """Without answer file and solution path, which follow from the rest."""


@dataclass(slots=True, kw_only=True)
class Record:
    """A journal in memory. Answers are taken from it, each once."""

    header: Header
    answers: dict[tuple[Port, str], dict[int, Answer]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    order: list[tuple[Port, str, int]] = field(default_factory=list)
    """Of the answers, as they were handed over."""
    left: dict[tuple[Port, str, int], tuple[str, ...]] = field(default_factory=dict)
    """Requests whose answer was not waited for, with the pieces that had come."""
    marks: list[Mark] = field(default_factory=list)
    """Where pieces of replies stood among the events."""
    intents: set[tuple[str, int]] = field(default_factory=set)
    """Calls that change something and were begun: key and number."""
    clock: deque[float] = field(default_factory=deque)
    """Readings of the run's clock in order, seconds since its start."""
    measured: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    """Times that were told in events, in order for each kind of event and place."""
    end: RunEnded | None = None
    size: int = 0
    """Bytes of whole lines; what follows is torn."""

    def take(self, port: Port, key: str, n: int, *, any_number: bool = False) -> Answer | None:
        """The answer to the n-th such request; `None` when there is none.

        Args:
            port: Who was asked.
            key: What for.
            n: From 1.
            any_number: Another answer to an equal request does too.
        """
        known = self.answers.get((port, key))
        if not known:
            return None
        if n not in known and any_number:
            n = min(known)
        return known.pop(n, None)

    def add(self, line: Line) -> None:
        """Take in one line after the header.

        Raises:
            ValidationError: It is not of this format.
        """
        value = line.value
        for reading in _list(value.get("clock")):
            self.clock.append(float(str(reading)))
        for pair in _list(value.get("measured")):
            key, seconds = _list(pair)
            self.measured[str(key)].append(float(str(seconds)))
        for request in _list(value.get("left")):
            left = Left.model_validate(request)
            self.left[left.port, left.key, left.n] = left.pieces
        self.marks += [_mark(pair) for pair in _list(value.get("marks"))]
        match value.get("kind"):
            case "end":
                self.end = End.model_validate(value).event
            case "intent":
                self.intents.add((str(value["key"]), int(str(value["n"]))))
            case "resumed":
                self.forget_end()
            case _:
                answer = Answer.model_validate(value)
                self.answers[answer.kind, answer.key][answer.n] = answer
                if answer.kind != "approve":
                    self.order.append((answer.kind, answer.key, answer.n))
        self.size = line.end

    def forget_end(self) -> None:
        """The run is resumed: what had ended it is not part of it."""
        self.end = None
        self.left.clear()
        self.marks.clear()
        for numbered in self.answers.values():
            for n, answer in list(numbered.items()):
                if answer.problem is not None and answer.problem.code not in _FINAL_PROBLEMS:
                    del numbered[n]


def has_ended_by_itself(end: RunEnded | None) -> bool:
    """Whether nothing is left to go on with: what failed or was cancelled can be resumed."""
    return end is not None and end.kind not in ("failed", "cancelled")


def read_header(path: Path) -> Header:
    """See `read_record`, whose first line this is."""
    return _header(_lines(path, at_most=1), path)


def read_record(path: Path) -> Record:
    """A journal, up to its first torn or damaged line.

    Raises:
        NotFound: There is no such file.
        FailedPrecondition: It is no journal, or of another version's format.
        Unavailable: It cannot be read.
    """
    lines = _lines(path)
    record = Record(header=_header(lines, path))
    try:
        for line in whole_lines(lines[1:]):
            record.add(line)
    except (ValidationError, ValueError, KeyError) as exc:
        raise _foreign(path, record.header) from exc
    record.size += len(lines[0])
    return record


def _lines(path: Path, *, at_most: int | None = None) -> list[bytes]:
    try:
        with open(path, "rb", opener=open_at_once) as stream:
            return list(islice(stream, at_most))
    except FileNotFoundError as exc:
        raise NotFound(f"no run {path.stem!r} is kept; `toolwright runs list` shows all") from exc
    except OSError as exc:
        raise Unavailable(f"{str(path)!r} cannot be read: {exc.strerror}") from exc


def _header(lines: Iterable[bytes], path: Path) -> Header:
    first = next(whole_lines(lines), None)
    if first is None or first.value.get("kind") != "header":
        raise FailedPrecondition(f"{str(path)!r} is damaged at its start, or no journal of a run")
    found = first.value.get("format")
    if found != FORMAT:
        raise FailedPrecondition(
            f"run {path.stem!r} was kept by planner {first.value.get('planner')} in format "
            f"{found}; planner {planner_version()} reads format {FORMAT}"
        )
    try:
        return Header.model_validate(first.value)
    except ValidationError as exc:
        raise FailedPrecondition(
            f"run {path.stem!r} was kept by planner {first.value.get('planner')}, whose requests "
            f"planner {planner_version()} cannot read"
        ) from exc


def _foreign(path: Path, header: Header) -> FailedPrecondition:
    return FailedPrecondition(
        f"run {path.stem!r} was kept by planner {header.planner}; planner {planner_version()} "
        "cannot read all of it"
    )


def _mark(value: JsonValue) -> Mark:
    n_others, expansion = _list(value)
    return Mark(int(str(n_others)), int(str(expansion)))


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
