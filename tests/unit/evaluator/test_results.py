"""One final result per sample, whoever writes and whenever it is interrupted."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.contracts.ids import SampleId
from services.evaluator.results import ResultStore
from tests.fakes.evaluation import result

ID = result().sample_id


def _write(root: Path, reason: str) -> bool:
    return ResultStore(root).write(result(reason=reason))


def test_a_result_is_read_back(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    assert store.read("c", ID) is None
    assert store.write(result(answer="\u00e9"))
    assert store.read("c", ID) == result(answer="\u00e9")


def test_the_first_final_result_stays(tmp_path: Path) -> None:
    assert _write(tmp_path, "first")
    assert not _write(tmp_path, "second")
    assert ResultStore(tmp_path).read("c", ID) == result(reason="first")


@pytest.mark.parametrize("later", ["infrastructure_error", "failed"])
def test_an_infrastructure_error_is_replaced(tmp_path: Path, later: str) -> None:
    store = ResultStore(tmp_path)
    assert store.write(result(outcome="infrastructure_error"))
    assert store.write(result(outcome=later, reason="later"))
    assert store.read("c", ID) == result(outcome=later, reason="later")


def test_a_final_result_is_not_replaced_by_an_infrastructure_error(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.write(result())
    assert not store.write(result(outcome="infrastructure_error"))


def test_of_many_threads_one_replaces_an_infrastructure_error(tmp_path: Path) -> None:
    ResultStore(tmp_path).write(result(outcome="infrastructure_error"))
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda n: _write(tmp_path, str(n)), range(64)))
    stored = ResultStore(tmp_path).read("c", ID)
    assert won.count(True) == 1
    assert stored is not None
    assert stored.reason == str(won.index(True))


def test_of_many_processes_one_writes_the_final_result(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        won = list(pool.map(_write, [tmp_path] * 40, map(str, range(40))))
    assert won.count(True) == 1
    assert [file.name for file in (tmp_path / "c").glob("*.json")] == [f"{ID}.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"sample_id": 1}'])
def test_a_file_that_is_no_result_counts_as_none_and_is_overwritten(
    tmp_path: Path, content: bytes
) -> None:
    store = ResultStore(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / f"{ID}.json").write_bytes(content)
    assert store.read("c", ID) is None
    assert store.write(result())
    assert store.campaign("c") == [result()]


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.evaluator.results.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        _write(tmp_path, "")
    assert [file.name for file in (tmp_path / "c").iterdir()] == [".writer"]


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "a/b", ".hidden", "a\n", "x" * 151])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    store = ResultStore(tmp_path)
    with pytest.raises(InvalidArgument, match="campaign"):
        store.campaign(name)
    with pytest.raises(InvalidArgument, match="sample id"):
        store.read("c", SampleId(name))
    with pytest.raises(InvalidArgument):
        store.write(result(sample_id=name))


def test_an_unknown_campaign_is_named_with_those_that_exist(tmp_path: Path) -> None:
    _write(tmp_path, "")
    with pytest.raises(NotFound, match=r"'d'; there are \['c'\]"):
        ResultStore(tmp_path).campaign("d")
    assert ResultStore(tmp_path).sample_ids("d") == set()


def test_a_discarded_result_may_be_written_again(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.write(result())
    store.discard("c", ID)
    store.discard("c", ID)
    assert store.sample_ids("c") == set()
    assert store.write(result())


def test_results_are_ordered_by_method_and_query(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for query_id, method in [(10, "CoT@1"), (9, "CoT@1"), (1, "DFS_woFilter_w2")]:
        store.write(result(query_id, method=method, sample_id=f"{query_id}_{method}"))
    found = [(each.method, each.query_id) for each in store.campaign("c")]
    assert found == [("CoT@1", 9), ("CoT@1", 10), ("DFS_woFilter_w2", 1)]


def test_a_campaign_is_run_by_one_at_a_time(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.claim("c"):
        with (
            pytest.raises(FailedPrecondition, match="'c' is being run by another process"),
            ResultStore(tmp_path).claim("c"),
        ):
            pass
        with store.claim("other"):
            pass
    with store.claim("c"):
        pass


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from services.evaluator.results import ResultStore\n"
        "with ResultStore(pathlib.Path(sys.argv[1])).claim('c'): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False)
    assert killed.returncode == -9
    with ResultStore(tmp_path).claim("c"):
        pass
