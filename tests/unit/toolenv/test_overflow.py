"""Long answers are kept whole, bounded and by reference."""

import errno
import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.errors import InvalidArgument, NotFound, PayloadTooLarge, Unavailable
from services.contracts.toolenv import OverflowPart
from services.toolenv.overflow import Capture, OverflowStore, whole_characters


@pytest.fixture
def store(tmp_path: Path) -> OverflowStore:
    return OverflowStore(tmp_path / "overflow", max_total_bytes=1000, max_blob_bytes=600)


def test_an_answer_is_kept_under_its_hash_and_read_back(
    store: OverflowStore, tmp_path: Path
) -> None:
    ref = store.put(b"hello")
    assert ref == f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    assert store.put(b"hello") == ref
    assert len(list((tmp_path / "overflow").iterdir())) == 1
    assert store.read(ref) == OverflowPart(text="hello", offset=0, total_bytes=5)


def test_pieces_join_to_the_whole_between_characters(store: OverflowStore) -> None:
    text = "aé字😀" * 20
    ref = store.put(text.encode())
    pieces, offset = [], 0
    while offset is not None:
        part = store.read(ref, offset=offset, limit=11)
        pieces.append(part.text)
        offset = part.next_offset
    assert "".join(pieces) == text
    assert len(pieces) > 10


def test_an_offset_inside_a_character_moves_to_the_next(store: OverflowStore) -> None:
    ref = store.put("é字x".encode())
    assert store.read(ref, offset=3) == OverflowPart(text="x", offset=5, total_bytes=6)
    assert store.read(ref, offset=6) == OverflowPart(text="", offset=6, total_bytes=6)


def test_the_oldest_make_room(store: OverflowStore, tmp_path: Path) -> None:
    refs = []
    for number in range(4):
        refs.append(store.put(bytes([65 + number]) * 300))
        os.utime(tmp_path / "overflow" / refs[-1][7:], (number, number))
    with pytest.raises(NotFound, match="no longer"):
        store.read(refs[0])
    assert [store.read(ref).total_bytes for ref in refs[1:]] == [300, 300, 300]


@pytest.mark.parametrize("ref", ["sha256:../../etc/passwd", "", "sha256:" + "A" * 64, "md5:1"])
def test_a_malformed_reference_is_refused(store: OverflowStore, ref: str) -> None:
    with pytest.raises(InvalidArgument, match="no reference of the form"):
        store.read(ref)


def test_numbers_out_of_range_are_refused(store: OverflowStore) -> None:
    ref = store.put(b"x")
    with pytest.raises(InvalidArgument, match="limit=4"):
        store.read(ref, limit=4)
    with pytest.raises(InvalidArgument, match="offset=-1"):
        store.read(ref, offset=-1)


def test_what_was_not_committed_leaves_nothing(store: OverflowStore, tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLarge, match="600 bytes"), store.writer() as writer:
        writer.write(b"x" * 500)
        writer.write(b"x" * 101)
    assert list((tmp_path / "overflow").iterdir()) == []


def test_what_a_dead_writer_left_is_removed_after_an_hour(
    store: OverflowStore, tmp_path: Path
) -> None:
    left = tmp_path / "overflow" / ".part-dead"
    left.parent.mkdir()
    left.write_bytes(b"half")
    store.put(b"one")
    assert left.exists()
    os.utime(left, (0, 0))
    store.put(b"two")
    assert not left.exists()


def test_a_short_answer_is_not_written(store: OverflowStore, tmp_path: Path) -> None:
    capture = Capture(store, max_bytes=10)
    assert capture.feed(b"12345")
    assert capture.feed(b"67890")
    assert capture.finish() == (b"1234567890", 10, None, "")
    assert not (tmp_path / "overflow").exists()


def test_a_long_answer_is_kept_whole(store: OverflowStore) -> None:
    capture = Capture(store, max_bytes=10)
    assert all(capture.feed(b"x" * 7) for _ in range(20))
    captured = capture.finish()
    assert captured.head == b"x" * 10
    assert captured.total_bytes == 140
    assert captured.overflow_ref is not None
    assert store.read(captured.overflow_ref).text == "x" * 140


def test_an_answer_beyond_what_is_kept_ends_the_reading(
    store: OverflowStore, tmp_path: Path
) -> None:
    capture = Capture(store, max_bytes=10)
    assert capture.feed(b"x" * 500)
    assert not capture.feed(b"x" * 500)
    captured = capture.finish()
    assert captured.overflow_ref is None
    assert "600 bytes that are kept of one" in captured.problem
    assert list((tmp_path / "overflow").iterdir()) == []


def test_without_a_place_only_the_head_remains() -> None:
    capture = Capture(None, max_bytes=4)
    assert not capture.feed(b"123456")
    assert capture.finish() == (b"1234", 6, None, "answers beyond the limit are not kept here")


def test_fifty_megabytes_pass_through_bounded_memory(tmp_path: Path) -> None:
    store = OverflowStore(tmp_path)
    chunk = b"x" * 65_536
    tracemalloc.start()
    capture = Capture(store, max_bytes=1 << 20)
    for _ in range(800):
        capture.feed(chunk)
    captured = capture.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert captured.total_bytes == 800 * 65_536
    assert captured.overflow_ref is not None
    assert peak < 8 << 20


def test_a_full_disk_costs_the_overflow_and_nothing_else(
    store: OverflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    capture = Capture(store, max_bytes=4)
    capture.feed(b"123456")
    captured = capture.finish()
    assert (captured.head, captured.overflow_ref) == (b"1234", None)
    assert "No space left" in captured.problem
    with pytest.raises(Unavailable, match="free space"):
        store.put(b"x")


def test_a_blob_larger_than_the_store_is_no_setting() -> None:
    with pytest.raises(ValueError, match="max_blob_bytes=2"):
        OverflowStore(Path("x"), max_total_bytes=1, max_blob_bytes=2)


@given(st.text(max_size=20), st.integers(0, 80))
def test_whole_characters_are_the_longest_decodable_beginning(text: str, end: int) -> None:
    content = text.encode()[:end]
    whole = whole_characters(content)
    assert text.startswith(whole.decode())
    assert len(content) - len(whole) < 4


def test_an_offset_that_no_file_has_is_past_the_end(store: OverflowStore) -> None:
    part = store.read(store.put(b"hello"), offset=1 << 70)
    assert (part.text, part.next_offset, part.total_bytes) == ("", None, 5)
