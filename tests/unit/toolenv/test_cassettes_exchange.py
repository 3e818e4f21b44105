"""Exports are the same everywhere; an import is checked line by line and is all or nothing."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.apis import ApiRef
from services.contracts.errors import InvalidArgument, NotFound, ServiceError
from services.contracts.toolenv import CallStatus
from services.toolenv.cassettes.exchange import export_lines, import_lines, import_snapshot
from services.toolenv.cassettes.key import canonical
from services.toolenv.cassettes.recording import Answer, line_of, parse_line, recording_of
from services.toolenv.cassettes.snapshot import Snapshot, freeze
from services.toolenv.cassettes.store import Added, Store
from tests.fakes.recordings import make_answer, make_recording

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = texts.filter(bool)
arguments = st.dictionaries(
    texts, st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
)
answers = st.builds(
    Answer,
    content=texts,
    status=st.sampled_from(CallStatus),
    source=st.sampled_from(["live", "remote", "custom"]),
    upstream_status=st.none() | st.integers(100, 599),
    latency_s=st.floats(0, 1e4),
    recorded_at=st.floats(0, 4e9),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "cassettes.db")) as opened:
        opened.put_many(make_recording(number) for number in range(5))
        yield opened


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "empty.db")) as opened:
        yield opened


def lines_of(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines(keepends=True)


@given(st.builds(ApiRef, category=names, tool=names, api=names), arguments, answers)
def test_a_line_is_canonical_and_read_back_as_it_was(
    ref: ApiRef, values: dict[str, object], answer: Answer
) -> None:
    recording = recording_of(ref, values, answer)
    line = line_of(recording)
    assert canonical(json.loads(line)) == line
    assert parse_line(line, where="line") == recording


def test_an_export_is_imported_whole(store: Store, empty: Store, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl.gz"
    seal = export_lines(store, path)
    done = import_lines(empty, path, expected_sha256=seal.sha256)
    assert done == (seal, Added(5, 0))
    assert list(empty.recordings(order="key")) == list(store.recordings(order="key"))
    assert import_lines(empty, path).added == Added(0, 5)


def test_the_hash_of_an_export_is_that_of_its_lines_and_of_the_snapshot(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "export.jsonl.gz"
    seal = export_lines(store, path)
    assert hashlib.sha256(b"".join(lines_of(path)[1:-1])).hexdigest() == seal.sha256
    frozen = freeze(store, tmp_path / "mine.db")
    assert frozen.seal == seal
    with closing(Snapshot(frozen.path)) as snapshot:
        assert export_lines(snapshot, tmp_path / "again.jsonl.gz") == seal
    assert (tmp_path / "again.jsonl.gz").read_bytes() == path.read_bytes()


def test_an_export_may_be_unpacked(store: Store, empty: Store, tmp_path: Path) -> None:
    path, plain = tmp_path / "export.jsonl.gz", tmp_path / "export.jsonl"
    export_lines(store, path)
    plain.write_bytes(b"".join(lines_of(path)))
    assert import_lines(empty, plain).added == Added(5, 0)


def test_a_snapshot_is_imported_whole(store: Store, empty: Store, tmp_path: Path) -> None:
    frozen = freeze(store, tmp_path / "mine.db")
    empty.put_now(make_recording(1, "mine"))
    assert import_snapshot(empty, frozen.path).added == Added(4, 1)
    assert empty.find(make_recording(1).key) == make_answer("mine")
    assert import_snapshot(empty, frozen.path, on_conflict="replace").added == Added(5, 0)
    with pytest.raises(ServiceError, match="not the expected"):
        import_snapshot(empty, frozen.path, expected_sha256="00")


def test_an_empty_export_is_imported(empty: Store, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl.gz"
    assert export_lines(empty, path).entries == 0
    assert import_lines(empty, path).added == Added(0, 0)


def test_another_hash_than_expected_is_refused(store: Store, empty: Store, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl.gz"
    export_lines(store, path)
    with pytest.raises(InvalidArgument, match="not the expected 0000"):
        import_lines(empty, path, expected_sha256="0" * 64)
    assert empty.count() == 0


def replaced(field: str, value: object) -> Callable[[list[bytes]], None]:
    """Changes one field of the third recording, which is line 4."""

    def change(lines: list[bytes]) -> None:
        line = json.loads(lines[3])
        line[field] = value
        lines[3] = canonical(line) + b"\n"

    return change


def without(field: str) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        line = json.loads(lines[3])
        del line[field]
        lines[3] = canonical(line) + b"\n"

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced("status", "great"), r"line 4: field 'status' is 'great'"),
        (replaced("source", "oracle"), r"line 4: field 'source'"),
        (replaced("content", 7), r"line 4: field 'content' is 7"),
        (replaced("content", "x" * 1_100_000), r"line 4: field 'content' has 1100000 bytes"),
        (replaced("content", "another"), r"the file was changed or damaged"),
        (replaced("latency_s", "0.1"), r"line 4: field 'latency_s' is '0.1'"),
        (replaced("latency_s", -1), r"line 4: field 'latency_s'"),
        (replaced("upstream_status", 1e3), r"line 4: field 'upstream_status'"),
        (replaced("upstream_status", 2**70), r"line 4: field 'upstream_status'"),
        (replaced("arguments", {"text": "x"}), r"line 4: field 'key' .* changed by hand"),
        (replaced("arguments", []), r"line 4: field 'arguments' is \[\]"),
        (replaced("arguments", {"a": "x" * 70_000}), r"line 4: field 'key'"),
        (replaced("api", ""), r"line 4: field 'api'"),
        (replaced("key", "00"), r"line 4: field 'key' is '00'"),
        (replaced("note", "mine"), r"line 4: field 'note' is unknown"),
        (without("status"), r"line 4: field 'status' is missing"),
        (lambda lines: lines.insert(3, b"{\n"), r"line 4: not a line of JSON"),
        (lambda lines: lines.insert(3, b"NaN\n"), r"line 4: not a line of JSON: NaN"),
        (lambda lines: lines.insert(3, b"[]\n"), r"line 4: a recording is a JSON object"),
        (lambda lines: lines.insert(3, b"\n"), r"line 4: not a line of JSON"),
        (lambda lines: lines.insert(3, b'{"a":"\\ud800"}\n'), r"line 4: field 'a' is unknown"),
        (lambda lines: lines.insert(3, b"[" * 9999 + b"\n"), r"line 4: not a line of JSON"),
        (lambda lines: lines.insert(3, b"\xff\n"), r"line 4: not a line of JSON"),
        (lambda lines: lines.insert(3, lines[2]), r"line 4: field 'key' does not come after"),
        (lambda lines: lines.insert(3, lines.pop(2)), r"line 4: field 'key' does not come after"),
        (lambda lines: lines.pop(3), r"promises 5 entries .* holds 4"),
        (lambda lines: lines.pop(), r"line 6: the last line must hold .* cut off"),
        (lambda lines: lines.pop(0), r"line 1: not an export of cassettes"),
        (lambda lines: lines.clear(), r"line 1: not an export of cassettes"),
        (lambda lines: lines.insert(3, b"x" * (17 << 20)), r"line 4: longer than the limit"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_imported(
    store: Store,
    empty: Store,
    tmp_path: Path,
    change: Callable[[list[bytes]], None],
    said: str,
) -> None:
    path = tmp_path / "export.jsonl.gz"
    export_lines(store, path)
    lines = lines_of(path)
    change(lines)
    path.write_bytes(gzip.compress(b"".join(lines), 1))
    with pytest.raises(InvalidArgument, match=rf"(?s)^export\.jsonl\.gz.*{said}"):
        import_lines(empty, path)
    assert empty.count() == 0
    assert not list(tmp_path.glob(".cassettes-*"))


def test_a_file_that_cannot_be_unpacked_is_named(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    path = tmp_path / "export.jsonl.gz"
    export_lines(store, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidArgument, match=r"cannot be unpacked|cut off"):
        import_lines(empty, path)
    path.write_bytes(b"\x1f\x8b" + b"\x00" * 40)
    with pytest.raises(InvalidArgument, match="cannot be unpacked"):
        import_lines(empty, path)
    with pytest.raises(NotFound, match="no file"):
        import_lines(empty, tmp_path / "missing.jsonl.gz")
    assert empty.count() == 0
