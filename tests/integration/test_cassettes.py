"""The record on a real disk: several processes, kill -9, no room, and the command line."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.toolenv.cassettes.snapshot import Snapshot, freeze
from services.toolenv.cassettes.store import Store
from tests.fakes.recordings import make_answer, make_recording

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).resolve().parents[2]
CHILDREN = Path(__file__).with_name("cassette_children.py")
LIMIT_S = 60


@contextmanager
def child(role: str, path: Path, argument: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(CHILDREN), role, str(path), str(argument)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def toolwright(home: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"TOOLWRIGHT_HOME": str(home), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


# As `toolwright cassettes`, whose errors `cli.__main__` prints on one line.
PROGRAM = """
import sys
from cli.cassettes import app
from services.contracts.errors import ServiceError
try:
    app(prog_name="toolwright cassettes")
except ServiceError as exc:
    sys.exit(f"error: {exc.detail}")
"""


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_at_any_moment_loses_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "cassettes.db"
    acknowledged: list[int] = []
    chance = random.Random(seed)
    for round_number in range(2):
        with child("write_for_ever", path, round_number * 100_000) as writer:
            assert writer.stdout is not None
            acknowledged.append(int(writer.stdout.readline()))
            time.sleep(chance.uniform(0, 0.15))
            writer.send_signal(signal.SIGKILL)
            complete = [line for line in writer.stdout if line.endswith("\n")]
            acknowledged += [int(line) for line in complete]
    with closing(Store(path)) as store:
        lost = [n for n in acknowledged if store.find(make_recording(n).key) is None]
    assert len(acknowledged) > 2
    assert lost == []
    assert is_sound(path)


def test_several_processes_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cassettes.db"
    with (
        child("write_some", path, 0) as first,
        child("write_some", path, 200) as second,
        child("write_some", path, 1000) as third,
    ):
        for process in (first, second, third):
            _, errors = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, errors
    with closing(Store(path)) as store:
        assert store.count() == 800
        assert store.find(make_recording(250).key) == make_answer()
    assert is_sound(path)


def test_a_disk_that_fills_up_is_said_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "cassettes.db"
    with child("fill", path, 400_000) as process:
        output, errors = process.communicate(timeout=LIMIT_S)
    lines = output.splitlines()
    acknowledged = [int(line) for line in lines if line.isdigit()]
    assert process.returncode == 0, errors
    assert lines[-1].startswith(f"StoreFull cassette file {str(path)!r} cannot grow")
    with closing(Store(path)) as store:
        found = [store.find(make_recording(number).key) for number in acknowledged]
        assert len(found) > 10
        assert None not in found
        assert store.put_now(make_recording(1_000_000)) is True


async def test_a_snapshot_taken_while_others_write_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cassettes.db"
    with child("write_for_ever", path, 0) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with closing(Store(path)) as store:
            frozen = [freeze(store, tmp_path / "snapshots") for _ in range(3)]
    for path_of, seal in frozen:
        with closing(Snapshot(path_of)) as snapshot:
            assert snapshot.seal == seal


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with closing(Store(tmp_path / "toolenv" / "cassettes.db")) as store:
        store.put_many(make_recording(number) for number in range(3))
        store.note_miss(_miss(7))
    return tmp_path


def _miss(number: int) -> Sequence[object]:
    from services.toolenv.cassettes.recording import Miss

    return Miss(*make_recording(number)[:5], times=1, last_at=time.time())


def test_the_command_line_shows_what_is_recorded(home: Path) -> None:
    info = json.loads(toolwright(home, "info", "--json").stdout)
    assert (info["entries"], info["apis"], info["misses"]) == (3, 1, 1)
    listed = json.loads(toolwright(home, "list", "--json", "--limit", "2").stdout)
    assert [entry["arguments"]["times"] for entry in listed] == [2, 1]
    assert "Customized/echo_tool/echo_text" in toolwright(home, "list").stdout
    (missed,) = json.loads(toolwright(home, "misses", "--json").stdout)
    assert missed["arguments"] == {"text": "text 7", "times": 7}
    assert "text 7" in toolwright(home, "misses").stdout
    assert "entries: 3" in toolwright(home, "info").stdout


def test_recordings_travel_by_export_and_by_snapshot(home: Path, tmp_path: Path) -> None:
    file, other = str(tmp_path / "echo.jsonl.gz"), tmp_path / "other"
    exported = json.loads(toolwright(home, "export", file, "--json").stdout)
    frozen = json.loads(toolwright(home, "freeze", "--json").stdout)
    assert frozen["sha256"] == exported["sha256"]
    verified = json.loads(toolwright(home, "verify", frozen["sha256"][:8], "--json").stdout)
    assert verified == frozen
    imported = json.loads(toolwright(other, "import", file, "--json").stdout)
    assert (imported["added"], imported["kept"]) == (3, 0)
    path, sha256 = frozen["path"], frozen["sha256"]
    again = json.loads(toolwright(other, "import", path, "--sha256", sha256, "--json").stdout)
    assert (again["added"], again["kept"]) == (0, 3)


def test_a_cache_folder_is_imported_with_a_report(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tool_response_cache" / "Weather" / "sky_for_Weather"
    folder.mkdir(parents=True)
    (folder / "now.json").write_text('{"{\'q\': 1}": {"error": "", "response": 1}, "nan": {}}')
    (folder / "broken.json").touch()
    done = toolwright(home, "import", str(tmp_path / "tool_response_cache"))
    assert "refused Weather/sky_for_Weather/broken.json: it is empty" in done.stdout
    assert "added: 1" in done.stdout
    assert "refused: 2" in done.stdout
    listed = json.loads(toolwright(home, "list", "--api", "Weather/sky", "--json").stdout)
    assert [entry["source"] for entry in listed] == ["remote"]


def test_deleting_needs_a_condition_and_reports_what_it_did(home: Path) -> None:
    refused = toolwright(home, "delete", status=1)
    assert "say what to delete" in refused.stderr
    key = make_recording(1).key
    assert "deleted: 1" in toolwright(home, "delete", "--key", key).stdout
    assert "deleted: 2" in toolwright(home, "delete", "--api", "Customized/echo_tool").stdout
    assert "deleted: 0" in toolwright(home, "delete", "--all").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "0" * 64), "no snapshot in"),
        (("import", "missing.jsonl.gz"), "no file 'missing.jsonl.gz'"),
        (("delete", "--key", "abc"), "64 lower-case"),
        (("list", "--source", "oracle"), "none of live"),
        (("list", "--api", "a/b/c/d"), "category/tool/api"),
        (("list", "--snapshot", "nowhere.db"), "no snapshot at 'nowhere.db'"),
    ],
)
def test_a_mistake_on_the_command_line_is_explained(
    home: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in toolwright(home, *arguments, status=1).stderr


def test_the_command_line_works_while_a_server_writes(home: Path) -> None:
    path = home / "toolenv" / "cassettes.db"
    with child("write_for_ever", path, 1000) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert json.loads(toolwright(home, "info", "--json").stdout)["entries"] > 3
        key = make_recording(1).key
        assert "deleted: 1" in toolwright(home, "delete", "--key", key).stdout
