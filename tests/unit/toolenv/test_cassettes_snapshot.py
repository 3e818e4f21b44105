"""A snapshot is named after what it holds, never changes, and shows when somebody changed it."""

import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.toolenv.cassettes.errors import StoreClosed, StoreDamaged, StoreReadOnly
from services.toolenv.cassettes.recording import Recording
from services.toolenv.cassettes.rows import Filter
from services.toolenv.cassettes.snapshot import Snapshot, freeze, locate, open_snapshot
from services.toolenv.cassettes.store import Store
from tests.fakes.recordings import make_recording


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "cassettes.db")) as opened:
        opened.put_many(make_recording(number) for number in range(5))
        yield opened


def frozen_hash(folder: Path, recordings: list[Recording]) -> str:
    with closing(Store(folder / "cassettes.db")) as store:
        for recording in recordings:
            store.put_now(recording)
        return freeze(store, folder).seal.sha256


@settings(max_examples=15)
@given(st.sets(st.integers(0, 99), min_size=1, max_size=8), st.integers())
def test_the_hash_depends_on_the_entries_and_not_on_their_order(
    numbers: set[int], seed: int
) -> None:
    one = [make_recording(number) for number in numbers]
    other = random.Random(seed).sample(one, len(one))
    changed = [other[0]._replace(latency_s=9.0), *other[1:]]
    with tempfile.TemporaryDirectory() as folder:
        hashes = [
            frozen_hash(Path(folder, str(index)), recordings)
            for index, recordings in enumerate([one, other, changed])
        ]
    assert hashes[0] == hashes[1]
    assert hashes[2] != hashes[0]


def test_a_snapshot_answers_as_the_store_did_when_it_was_frozen(
    store: Store, tmp_path: Path
) -> None:
    frozen = freeze(store, tmp_path / "snapshots")
    store.put_now(make_recording(1, "changed"))
    store.put_now(make_recording(9))
    assert frozen.path == tmp_path / "snapshots" / f"{frozen.seal.sha256}.db"
    with closing(Snapshot(frozen.path, expected_sha256=frozen.seal.sha256)) as snapshot:
        assert snapshot.find(make_recording(1).key) == make_recording(1)[5:]
        assert snapshot.find(make_recording(9).key) is None
        assert snapshot.seal.entries == len(list(snapshot.recordings())) == 5


def test_a_snapshot_can_hold_a_part(store: Store, tmp_path: Path) -> None:
    wanted = Filter(key=make_recording(2).key)
    frozen = freeze(store, tmp_path / "part.db", wanted=wanted)
    assert frozen.path.name == "part.db"
    assert frozen.seal.entries == 1


def test_freezing_the_same_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    first, second = (freeze(store, tmp_path / "snapshots") for _ in range(2))
    assert first == second
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [first.path.name]
    assert first.path.stat().st_mode & 0o222 == 0


def test_a_name_that_holds_something_else_is_not_overwritten(store: Store, tmp_path: Path) -> None:
    frozen = freeze(store, tmp_path / "mine.db")
    store.put_now(make_recording(9))
    with pytest.raises(FailedPrecondition, match="choose another name"):
        freeze(store, tmp_path / "mine.db")
    Snapshot(frozen.path, expected_sha256=frozen.seal.sha256).close()


def test_an_empty_store_is_not_frozen(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "empty.db")) as store:
        with pytest.raises(FailedPrecondition, match="no recording to freeze"):
            freeze(store, tmp_path / "snapshots")
        assert list((tmp_path / "snapshots").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE recordings SET content = '{}' WHERE id = 1",
        "DELETE FROM recordings WHERE id = 1",
        "UPDATE recordings SET key = zeroblob(32) WHERE id = 1",
        "UPDATE recordings SET arguments = '{}' WHERE id = 1",
        "UPDATE recordings SET status = 'great' WHERE id = 1",
        "UPDATE seal SET sha256 = 'ab' || substr(sha256, 3)",
    ],
)
def test_a_changed_snapshot_is_not_opened(store: Store, tmp_path: Path, change: str) -> None:
    path = freeze(store, tmp_path / "mine.db").path
    path.chmod(0o600)
    with closing(sqlite3.connect(path)) as tampered:
        tampered.execute(change)
        tampered.commit()
    with pytest.raises(StoreDamaged, match="changed or damaged"):
        Snapshot(path)
    Snapshot(path, verify=False).close()


def test_a_cut_off_snapshot_is_not_opened(store: Store, tmp_path: Path) -> None:
    path = freeze(store, tmp_path / "mine.db").path
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreDamaged, match=r"mine\.db"):
        Snapshot(path)


def test_what_is_no_snapshot_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello " * 1000)
    (tmp_path / "empty.db").touch()
    with pytest.raises(FailedPrecondition, match="still written"):
        Snapshot(store.path)
    with pytest.raises(StoreDamaged, match=r"text\.db"):
        Snapshot(tmp_path / "text.db")
    with pytest.raises(StoreDamaged, match=r"empty\.db"):
        Snapshot(tmp_path / "empty.db")
    with pytest.raises(FailedPrecondition, match="no snapshot at"):
        Snapshot(tmp_path / "missing.db")


def test_another_hash_than_expected_is_refused(store: Store, tmp_path: Path) -> None:
    path = freeze(store, tmp_path / "mine.db").path
    with pytest.raises(FailedPrecondition, match="not the expected 0000"):
        Snapshot(path, expected_sha256="0" * 64)


def test_a_snapshot_is_opened_by_digits_of_its_hash(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    frozen = freeze(store, folder)
    with closing(open_snapshot(frozen.seal.sha256[:8], folder)) as snapshot:
        assert snapshot.seal == frozen.seal
    (folder / f"{frozen.seal.sha256[:8]}00.db").touch()
    with pytest.raises(InvalidArgument, match="2 snapshots"):
        locate(frozen.seal.sha256[:8], folder)
    with pytest.raises(NotFound, match="no snapshot"):
        locate("0" * 8, folder)
    with pytest.raises(NotFound, match="8 or more digits"):
        locate("elsewhere.db", folder)


def test_a_file_renamed_to_another_hash_is_found_out(store: Store, tmp_path: Path) -> None:
    frozen = freeze(store, tmp_path)
    frozen.path.rename(tmp_path / f"{'ab' * 32}.db")
    with pytest.raises(FailedPrecondition, match="not the expected abab"):
        open_snapshot("ab" * 32, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreReadOnly, match="choose a folder"):
        freeze(store, tmp_path / "file" / "snapshots")


def test_a_closed_snapshot_says_so(store: Store, tmp_path: Path) -> None:
    snapshot = Snapshot(freeze(store, tmp_path / "mine.db").path)
    snapshot.close()
    with pytest.raises(StoreClosed):
        snapshot.find(make_recording().key)
