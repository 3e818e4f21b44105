"""The folder with the journals of many runs; the oldest make room for new ones."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import JsonValue, ValidationError

from services.contracts.errors import FailedPrecondition, ServiceError
from services.contracts.ids import RunId
from services.contracts.planner import RunSummary, SolveRequest
from services.planner.journal.entries import (
    FORMAT,
    End,
    Header,
    Record,
    has_ended_by_itself,
    planner_version,
    read_header,
    read_record,
)
from services.planner.journal.file import JournalFile, is_going_on
from services.planner.journal.lines import whole_lines
from services.planner.journal.tape import Tape
from services.planner.trunk import TrunkRecord

log = structlog.get_logger()
_SUFFIX: Final = ".jsonl"
_GIB: Final = 1 << 30
_MOST_UNLOOKED: Final = 16  # runs that may begin before the folder is looked through again


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a forked run starts from."""

    run_id: RunId
    node_id: int
    trunk: TrunkRecord


class Shelf:
    """Journals by run. Several processes may use one folder."""

    def __init__(self, folder: Path, *, keep_runs: int = 1_000, keep_bytes: int = _GIB) -> None:
        """Use a folder, which is made when the first run is kept.

        Args:
            folder: Holds one file per run.
            keep_runs: Newest runs that stay, >= 1.
            keep_bytes: Size of all files together that is not exceeded when a run begins.
        """
        self._folder = folder
        self._keep_runs = keep_runs
        self._keep_bytes = keep_bytes
        self._begun = 0

    @classmethod
    def unlimited(cls, folder: Path) -> "Shelf":
        """Of one batch: none of its runs makes room for another one."""
        return cls(folder, keep_runs=sys.maxsize, keep_bytes=sys.maxsize)

    def begin(
        self,
        run_id: RunId,
        request: SolveRequest,
        *,
        options: dict[str, JsonValue],
        prompts: str,
        origin: Origin | None = None,
    ) -> Tape:
        """Keep a new run. Blocks on the disk.

        Raises:
            FailedPrecondition: One of that name is kept.
            Unavailable: The disk refuses.
        """
        self._make_room()
        header = Header(
            format=FORMAT,
            planner=planner_version(),
            run_id=run_id,
            started_at=time.time(),
            request=request,
            options=options,
            prompts=prompts,
            forked_from=origin.run_id if origin is not None else None,
            forked_node=origin.node_id if origin is not None else None,
            trunk=origin.trunk if origin is not None else None,
        )
        file = JournalFile.create(self._path(run_id), header.model_dump_json())
        return Tape(Record(header=header), file)

    def play(self, run_id: RunId) -> Tape:
        """A kept run to be replayed; raises as `read_record`. Blocks on the disk."""
        return Tape(self.record(run_id), None)

    def record(self, run_id: RunId) -> Record:
        """All of a kept run; raises as `read_record`. Blocks on the disk."""
        return read_record(self._path(run_id))

    def go_on(self, run_id: RunId) -> Tape:
        """A kept run to be resumed. Blocks on the disk.

        Raises:
            FailedPrecondition: The run came to its end by itself, or is going on now.
            ServiceError: As `read_record`.
        """
        path = self._path(run_id)
        read_header(path)
        file = JournalFile.reopen(path)
        try:
            record = read_record(path)
            if has_ended_by_itself(record.end):
                raise FailedPrecondition(f"run {run_id!r} has ended; replay it, or fork it")
            file.cut(record.size)
            file.append('{"kind":"resumed"}')
            record.forget_end()
        except BaseException:
            file.close()
            raise
        return Tape(record, file)

    def remove(self, run_id: RunId) -> None:
        """Forget a run.

        Raises:
            FailedPrecondition: It is going on now.
        """
        path = self._path(run_id)
        if path.exists() and is_going_on(path):
            raise FailedPrecondition(f"run {run_id!r} is going on now")
        path.unlink(missing_ok=True)

    def summaries(self, limit: int) -> list[RunSummary]:
        """The latest runs, newest first; what is no journal is passed over. Blocks on the disk."""
        found = []
        for path, _ in self._files()[:limit]:
            try:
                found.append(_summary(path))
            except (ServiceError, ValidationError, OSError) as exc:
                log.warning("journal_unreadable", file=path.name, reason=str(exc))
        return sorted(found, key=lambda run: run.started_at, reverse=True)

    def _path(self, run_id: RunId) -> Path:
        return self._folder / f"{run_id}{_SUFFIX}"

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        """Files with what is known of them, latest change first."""
        try:
            with os.scandir(self._folder) as entries:
                found = [
                    (Path(entry.path), known)
                    for entry in entries
                    if entry.name.endswith(_SUFFIX) and (known := _file_status(entry)) is not None
                ]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda file: (file[1].st_mtime_ns, file[0]), reverse=True)

    def _make_room(self) -> None:
        """Remove the oldest runs that are not going on; not at every beginning, it takes time."""
        self._begun += 1
        if (self._begun - 1) % min(max(self._keep_runs // 16, 1), _MOST_UNLOOKED):
            return
        total = 0
        for number, (path, known) in enumerate(self._files(), start=2):
            total += known.st_size
            if number <= self._keep_runs and total <= self._keep_bytes:
                continue
            if not is_going_on(path):
                path.unlink(missing_ok=True)
                total -= known.st_size


def _file_status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """`None` for what is no file, or none any more."""
    try:
        return entry.stat() if entry.is_file() else None
    except FileNotFoundError:
        return None


def _summary(path: Path) -> RunSummary:
    """From the first line, the last one, and how many there are of each kind."""
    data = path.read_bytes()
    header = read_header(path)
    last = next(whole_lines([data[data.rfind(b"\n", 0, -1) + 1 :]]), None)
    end = None
    if last is not None and last.value.get("kind") == "end":
        end = End.model_validate(last.value).event
    return RunSummary(
        run_id=header.run_id,
        instruction=header.request.instruction,
        method=header.request.method,
        started_at=header.started_at,
        kind=end.kind if end is not None else "unfinished",
        llm_calls=end.llm_calls if end is not None else data.count(b'\n{"kind":"model",'),
        tool_calls=end.tool_calls if end is not None else data.count(b'\n{"kind":"tool",'),
        forked_from=header.forked_from,
    )
