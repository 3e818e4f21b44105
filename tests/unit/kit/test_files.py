"""Files that are replaced as a whole, and locks between processes."""

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from services.contracts.errors import Unavailable
from services.kit.files import file_lock, write_atomically


def test_the_content_and_the_access_rights_are_those_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"one", mode=0o600)
    write_atomically(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["file"]


def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(Unavailable, match="cannot be written"):
        write_atomically(tmp_path / "file", b"x")
    assert os.listdir(tmp_path) == ["file"]


def test_a_lock_that_somebody_else_holds_is_named_after_the_wait(tmp_path: Path) -> None:
    with (
        file_lock(tmp_path / "lock"),
        pytest.raises(Unavailable, match="another process held"),
        file_lock(tmp_path / "lock", timeout_s=0.1),
    ):
        pytest.fail("two holders")


def _add_one(path: Path) -> None:
    for _ in range(20):
        with file_lock(path.with_suffix(".lock")):
            count = int(path.read_text(encoding="ascii"))
            write_atomically(path, str(count + 1).encode())


def test_processes_under_the_lock_lose_no_update(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0", encoding="ascii")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_one, args=(path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert path.read_text(encoding="ascii") == "60"


def test_a_lock_is_free_after_an_error_in_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), file_lock(tmp_path / "lock"):
        raise KeyError
    with file_lock(tmp_path / "lock", timeout_s=0.1):
        assert threading.active_count() >= 1
