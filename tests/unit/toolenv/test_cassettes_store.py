"""What is recorded is found again, and a file that cannot be used is named with its fix."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import InvalidArgument
from services.contracts.toolenv import CallStatus
from services.toolenv.cassettes.errors import (
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreFull,
    StoreReadOnly,
)
from services.toolenv.cassettes.recording import Miss, Recording
from services.toolenv.cassettes.rows import Filter
from services.toolenv.cassettes.store import MAX_MISSES, Added, Store, age_s, check_key
from tests.fakes.recordings import make_answer, make_recording

pytestmark = pytest.mark.anyio

OTHER = ApiRef(category="Weather", tool="open_weather", api="get_forecast")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "cassettes.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store(path)) as opened:
        yield opened


def missed(number: int, *, at: float = 1.0) -> Miss:
    recording = make_recording(number)
    return Miss(*recording[:5], times=1, last_at=at)


async def test_an_answer_is_found_as_it_was_recorded(store: Store) -> None:
    recording = make_recording(1, {"text": 'quote " and \u00fc'})
    assert await store.put(recording) is True
    assert store.find(recording.key) == recording[5:]
    assert store.find(make_recording(2).key) is None


async def test_a_recording_is_found_by_another_store_of_the_same_file(
    store: Store, path: Path
) -> None:
    with closing(Store(path)) as other:
        assert other.find(make_recording().key) is None
        await store.put(make_recording())
        assert other.find(make_recording().key) == make_answer()


async def test_the_newest_answer_of_a_call_wins(store: Store) -> None:
    await store.put(make_recording(1, "old"))
    await store.put(make_recording(1, "new"))
    assert store.find(make_recording(1).key) == make_answer("new")
    assert store.count() == 1


async def test_an_error_never_takes_the_place_of_a_good_answer(store: Store) -> None:
    broken = make_recording(1, "", status=CallStatus.TOOL_ERROR)
    assert await store.put(broken) is True
    assert await store.put(make_recording(1, "good")) is True
    assert await store.put(broken) is False
    assert store.find(broken.key) == make_answer("good")


async def test_300_concurrent_misses_of_one_api_leave_300_entries(store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(store.put(make_recording(number)))
    assert store.count() == 300
    assert {recording.arguments for recording in store.recordings()} == {
        make_recording(number).arguments for number in range(300)
    }


async def test_one_write_that_cannot_be_made_fails_alone(store: Store) -> None:
    impossible = make_recording(1)._replace(upstream_status=2**70)
    results = await asyncio.gather(  # the failure is one of the results
        *(store.put(make_recording(number)) for number in (2, 3)),
        store.put(impossible),
        store.put(make_recording(4)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [bool, bool, OverflowError, bool]
    assert store.count() == 3


async def test_whoever_gives_up_waiting_undoes_nothing(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="not durable within 0.05 s"):
            await store.put(make_recording(), timeout_s=0.05)
        other.execute("ROLLBACK")
    store.flush()
    assert store.count() == 1


async def test_waiting_for_another_process_has_an_end(path: Path) -> None:
    with (
        closing(Store(path, busy_timeout_s=0.05)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="another process"):
            await store.put(make_recording())
        with pytest.raises(StoreBusy, match=str(path)):
            store.put_many([make_recording()])
        assert store.find(make_recording().key) is None
        other.execute("ROLLBACK")
        assert await store.put(make_recording()) is True


async def test_the_queue_of_writes_is_bounded(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> int:
        started.set()
        go_on.wait(10)
        return 0

    with closing(Store(path, max_queued=2)) as store:
        store._writer.submit(slow)
        started.wait(10)
        assert [store.note_miss(missed(number)) for number in range(3)] == [True, True, False]
        with pytest.raises(StoreFull, match="2 writes"):
            await store.put(make_recording())
        go_on.set()
        store.flush()
        assert len(store.misses()) == 2


async def test_a_full_disk_is_said_and_loses_nothing(store: Store, path: Path) -> None:
    await store.put(make_recording(1))
    with closing(sqlite3.connect(path)) as other:
        pages = other.execute("PRAGMA page_count").fetchone()[0]

    def limit(connection: sqlite3.Connection) -> int:
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return 0

    store._writer.submit(limit).result(5)
    with pytest.raises(StoreFull, match="free some space") as failure:
        await store.put(make_recording(2, "x" * 100_000))
    assert str(path) in failure.value.detail
    assert store.find(make_recording(1).key) == make_answer()
    assert await store.put(make_recording(3)) is True


async def test_a_file_that_may_not_be_written_is_said(store: Store, path: Path) -> None:

    def forbid(connection: sqlite3.Connection) -> int:
        connection.execute("PRAGMA query_only = ON")
        return 0

    store._writer.submit(forbid).result(5)
    with pytest.raises(StoreReadOnly, match="write access to the file") as failure:
        await store.put(make_recording())
    assert str(path) in failure.value.detail
    assert store.find(make_recording().key) is None


async def test_arrival_decides_which_answer_is_the_newest_and_not_the_clock(store: Store) -> None:
    await store.put(make_recording(1, "before the jump"))
    after = make_recording(1, "after it")._replace(recorded_at=1.0)
    await store.put(after)
    assert store.find(after.key) == after[5:]


def test_many_are_written_together_or_not_at_all(store: Store) -> None:
    def broken() -> Iterator[Recording]:
        yield make_recording(1)
        raise InvalidArgument("line 2 is wrong")

    with pytest.raises(InvalidArgument):
        store.put_many(broken())
    assert store.count() == 0
    assert store.put_many(make_recording(n) for n in range(5)) == Added(5, 0)


def test_a_bulk_write_keeps_or_replaces_what_is_there(store: Store) -> None:
    store.put_now(make_recording(1, "mine"))
    theirs = [make_recording(1, "theirs"), make_recording(2, "theirs")]
    assert store.put_many(theirs) == Added(1, 1)
    assert store.find(theirs[0].key) == make_answer("mine")
    assert store.put_many(theirs, on_conflict="replace") == Added(2, 0)
    assert store.find(theirs[0].key) == make_answer("theirs")


def test_entries_are_listed_counted_and_deleted_by_condition(store: Store) -> None:
    store.put_many([make_recording(1), make_recording(2, ref=OTHER, source="remote")])
    assert [found.ref for found in store.recordings(Filter(category="Weather"))] == [OTHER]
    assert store.count(Filter(source="remote")) == 1
    assert store.count(Filter(before=0.0)) == 0
    assert store.delete(Filter(key=make_recording(1).key)) == 1
    assert [found.ref for found in store.recordings()] == [OTHER]


def test_a_list_is_as_of_its_beginning(store: Store) -> None:
    store.put_many(make_recording(number) for number in range(3))
    listed = store.recordings(order="key")
    keys = [next(listed).key]
    store.put_many(make_recording(number) for number in range(3, 50))
    keys += [recording.key for recording in listed]
    assert keys == sorted(make_recording(number).key for number in range(3))


def test_a_miss_is_listed_once_with_its_count_until_it_is_recorded(store: Store) -> None:
    for at in (1.0, 2.0):
        store.note_miss(missed(1, at=at))
    store.note_miss(missed(2, at=3.0))
    store.flush()
    assert [(miss.key, miss.times, miss.last_at) for miss in store.misses()] == [
        (missed(2).key, 1, 3.0),
        (missed(1).key, 2, 2.0),
    ]
    store.put_now(make_recording(1))
    assert [miss.key for miss in store.misses()] == [missed(2).key]
    store.put_many([make_recording(2)])
    assert store.misses() == []


def test_the_list_of_misses_is_bounded(store: Store) -> None:
    for number in range(MAX_MISSES + 600):
        while not store.note_miss(missed(number, at=float(number))):
            store.flush()
    store.flush()
    kept = store.misses(limit=2 * MAX_MISSES)
    assert MAX_MISSES <= len(kept) <= MAX_MISSES + 256
    assert kept[0].last_at == MAX_MISSES + 599
    assert store.clear_misses() == len(kept)


def test_figures_describe_the_store(store: Store) -> None:
    assert store.info().summary.oldest_at is None
    store.put_many([make_recording(1), make_recording(2, ref=OTHER, source="remote")])
    found = store.info()
    assert found.n_bytes > 0
    assert (found.summary.entries, found.summary.apis) == (2, 2)
    assert found.summary.sources == {"live": 1, "remote": 1}
    assert found.summary.statuses == {"ok": 2}


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at" * 20, b"SQLite format 3\x00junk"]
)
def test_a_file_that_is_no_database_is_left_alone_and_named(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreDamaged, match="move it and its -wal") as failure:
        Store(path)
    assert str(path) in failure.value.detail
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreDamaged, match="another program"):
        Store(path)


def test_a_file_of_a_later_version_is_refused(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreDamaged, match="format version 9, this program reads 1"):
        Store(path)


def test_damage_within_the_file_is_a_typed_error(store: Store, path: Path) -> None:
    store.put_many(make_recording(number, "x" * 2000) for number in range(200))
    store.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with closing(Store(path)) as damaged, pytest.raises(StoreDamaged, match=str(path)):
        [damaged.find(make_recording(number).key) for number in range(200)]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreReadOnly, match="TOOLWRIGHT_HOME"):
        Store(tmp_path / "file" / "cassettes.db")
    with pytest.raises(StoreReadOnly, match="write access"):
        Store(tmp_path)


def test_a_file_removed_while_in_use_acknowledges_nothing_more(store: Store, path: Path) -> None:
    store.put_now(make_recording(1))
    assert store.find(make_recording(1).key) == make_answer()
    path.rename(path.with_name("moved.db"))
    with pytest.raises(StoreClosed, match="removed or replaced"):
        store.put_now(make_recording(2))
    assert store.find(make_recording(1).key) == make_answer()


def test_a_closed_store_says_so(path: Path) -> None:
    store = Store(path)
    store.put_now(make_recording(1))
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.find(make_recording(1).key)
    with pytest.raises(StoreClosed):
        store.put_now(make_recording(2))
    with pytest.raises(StoreClosed):
        store.count()


def test_only_the_owner_can_read_the_file(store: Store, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


async def test_a_read_on_another_thread_has_its_own_connection(store: Store) -> None:
    store.put_many(make_recording(number) for number in range(20))
    keys = [make_recording(number).key for number in range(20)] * 20
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(asyncio.to_thread(store.find, key)) for key in keys]
    assert all(read.result() == make_answer() for read in reads)


def test_an_age_is_never_negative_when_the_clock_was_set_back() -> None:
    assert age_s(100.0, clock=lambda: 130.0) == 30.0
    assert age_s(100.0, clock=lambda: 40.0) == 0.0
    assert age_s(time.time()) < 5.0


@pytest.mark.parametrize("text", ["", "abc", "G" * 64, "A" * 64])
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="64 lower-case"):
        check_key(text)
