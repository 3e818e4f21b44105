"""A batch whose process was killed goes on after its last recorded call."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.settings import SharedSettings
from services.planner.batch import BatchOptions, solve_queries
from services.planner.bootstrap import open_records
from services.planner.journal.shelf import Shelf
from services.planner.runs import FromRecords
from tests.fakes.batch_process import QUERIES, solved

pytestmark = pytest.mark.anyio
_BEFORE_THE_KILL = 9


def answers(folder: Path) -> dict[str, bytes]:
    """The answer files' bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.json"))}


def until(path: Path, size: int) -> Iterator[None]:
    """Pauses, until a file has so many bytes."""
    deadline = time.monotonic() + 20
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline
        yield


def killed_midway(output: Path, calls: Path) -> None:
    """Start the batch as a process of its own, and kill it in the middle."""
    command = [sys.executable, "-m", "tests.fakes.batch_process", str(output), str(calls), "0.02"]
    process = subprocess.Popen(command)
    try:
        for _ in until(calls, _BEFORE_THE_KILL):
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()


def recorded(output: Path) -> int:
    """Model calls in the journals that are left; answer files stand for those of their runs."""
    return sum(
        path.read_bytes().count(b'\n{"kind":"model",') for path in (output / "runs").iterdir()
    )


async def test_a_killed_batch_asks_only_what_its_records_lack(tmp_path: Path) -> None:
    await solved(tmp_path / "whole", tmp_path / "all", delay_s=0)
    total = (tmp_path / "all").stat().st_size
    output, calls = tmp_path / "killed", tmp_path / "calls"
    await asyncio.to_thread(killed_midway, output, calls)
    known = recorded(output)
    calls.unlink()
    report = await solved(output, calls, delay_s=0)
    assert report.is_complete
    assert 0 < known < total
    assert calls.stat().st_size == total - known
    assert answers(output) == answers(tmp_path / "whole")


async def test_a_batch_is_solved_again_from_its_records_alone(tmp_path: Path) -> None:
    await solved(tmp_path / "first", tmp_path / "calls", delay_s=0)
    asked = (tmp_path / "calls").stat().st_size
    shared = SharedSettings(toolwright_home=tmp_path / "home")
    async with open_records(Shelf(tmp_path / "first" / "runs"), shared) as planner:
        options = BatchOptions(method="dfsdt", output=tmp_path / "second")
        report = await solve_queries(FromRecords(planner), QUERIES, options)
    assert report.is_complete
    assert answers(tmp_path / "second") == answers(tmp_path / "first")
    assert (tmp_path / "calls").stat().st_size == asked


async def test_a_lost_answer_file_is_made_again_from_the_record(tmp_path: Path) -> None:
    await solved(tmp_path, tmp_path / "calls", delay_s=0)
    before, asked = answers(tmp_path), (tmp_path / "calls").stat().st_size
    (tmp_path / "1_DFS_woFilter_w2.json").unlink()
    await solved(tmp_path, tmp_path / "calls", delay_s=0)
    assert answers(tmp_path) == before
    assert (tmp_path / "calls").stat().st_size == asked
