"""All golden trees: the real planner, model client and tool client against the scripted servers.

The trees were written by the reference when driven by the same script, so equality proves the
control flow, the messages and the budgets. Which quirks are on is `compat.TOOLBENCH`.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.contracts.planner import PlanEvent, SolveRequest
from services.contracts.toolbench.queries import read_queries
from services.llm.engines.openai_compatible import OpenAICompatibleEngine
from services.planner.batch import BatchOptions, solve_queries
from services.planner.service import PlannerService
from services.toolenv.admission import Admission
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.chain import Chain
from services.toolenv.executors.remote import RemoteExecutor
from services.toolenv.registry import Registry
from services.toolenv.service import ToolEnvService

pytestmark = pytest.mark.anyio

_START_S = 30.0
_COMPARE_S = 60.0
OWN_KEY = "toolwright"
"""How the file came about, which the reference does not tell."""


@pytest.fixture(scope="module")
def harness(shared_data: Path) -> Path:
    return shared_data.parent / "harness"


@pytest.fixture(scope="module")
def catalogue(shared_data: Path) -> Catalogue:
    return load_catalogue([shared_data / "toolbench" / "tools"])


@pytest.fixture(scope="module")
def scripted_url(harness: Path) -> Iterator[str]:
    """Base URL of the scripted model and tool world, seed 7."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(harness / "fake_servers.py"), "--port", str(port), "--seed", "7"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, server)
            settings = {"rate_limit": True, "llm_latency": 0, "keep_trace": False}
            httpx.post(f"{url}/config", json=settings, timeout=5).raise_for_status()
            yield url
        finally:
            server.terminate()


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    ends_at = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < ends_at:
        try:
            httpx.get(f"{url}/stats", timeout=1)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the scripted servers did not start; their output says why")


def compare(harness: Path, expected: Path, actual: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(harness / "compare.py"), str(expected), str(actual)],
        capture_output=True,
        text=True,
        timeout=_COMPARE_S,
        check=False,
    )


def outline(path: Path) -> list[object]:
    """Keys in order, arguments, functions, candidates: what `compare.py` leaves out."""
    answer = json.loads(path.read_text(encoding="utf-8"))
    generation = answer["answer_generation"]
    functions = [element["function"] for element in generation["function"][:-1]]
    for function in functions:
        for names in ("required", "optional"):
            # StableToolBench starts both lists with an empty name, ToolBench does not.
            listed = function["parameters"][names]
            function["parameters"][names] = [name for name in listed if name]
    return [
        [key for key in answer if key != OWN_KEY],
        list(generation),
        answer["forward_args"],
        functions,
        [[list(node.items()) for node in path] for path in answer["compare_candidates"]],
        generation["query"],
    ]


def last_key(path: Path) -> str:
    return list(json.loads(path.read_text(encoding="utf-8")))[-1]


@pytest.mark.parametrize("method", ["CoT@1", "DFS_woFilter_w2"])
async def test_answer_files_have_the_references_keys_order_and_functions(
    method: str, shared_data: Path, scripted_url: str, catalogue: Catalogue, tmp_path: Path
) -> None:
    queries = read_queries(shared_data / "golden" / "queries" / "G3_instruction.json")
    options = BatchOptions(method=method, output=tmp_path, concurrency=4)
    async with open_planner(scripted_url, catalogue) as planner:
        await solve_queries(planner, queries, options)
    folder = shared_data / "golden" / "seed7" / "G3_instruction" / method
    names = sorted(os.listdir(folder))
    assert len(names) == 20
    assert [outline(tmp_path / name) for name in names] == [
        outline(folder / name) for name in names
    ]
    assert {last_key(tmp_path / name) for name in names} == {OWN_KEY}


@asynccontextmanager
async def open_planner(url: str, catalogue: Catalogue) -> AsyncIterator[PlannerService]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield PlannerService(
            model=OpenAICompatibleEngine(http=http, base_url=f"{url}/v1", model="scripted"),
            toolenv=ToolEnvService(
                registry=Registry.fixed(catalogue),
                chain=Chain(
                    [RemoteExecutor(http, url=f"{url}/virtual", codes_from_error_text=True)]
                ),
                admission=Admission(max_running=32, max_waiting=64),
            ),
            retriever=None,
        )


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("method", ["CoT@1", "DFS_woFilter_w2"])
@pytest.mark.parametrize(("test_set", "n_trees"), [("G1_instruction", 30), ("G3_instruction", 20)])
async def test_every_golden_tree_is_equal(
    test_set: str,
    n_trees: int,
    method: str,
    concurrency: int,
    shared_data: Path,
    harness: Path,
    scripted_url: str,
    catalogue: Catalogue,
    tmp_path: Path,
) -> None:
    queries = read_queries(shared_data / "golden" / "queries" / f"{test_set}.json")
    options = BatchOptions(method=method, output=tmp_path, concurrency=concurrency)
    async with open_planner(scripted_url, catalogue) as planner:
        report = await solve_queries(planner, queries, options)
    assert report.is_complete, report.failures
    expected = shared_data / "golden" / "seed7" / test_set / method
    compared = compare(harness, expected, tmp_path)
    assert f"{n_trees} of {n_trees} trees equal" in compared.stdout, compared.stdout
    assert compared.returncode == 0


class Speculating:
    """A planner whose every run makes calls ahead of time."""

    def __init__(self, planner: PlannerService) -> None:
        self._planner = planner

    def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        return self._planner.solve(request.model_copy(update={"mode": "speculative"}))


async def test_calls_ahead_of_time_leave_the_golden_trees_equal(
    shared_data: Path, harness: Path, scripted_url: str, catalogue: Catalogue, tmp_path: Path
) -> None:
    method = "DFS_woFilter_w2"
    queries = read_queries(shared_data / "golden" / "queries" / "G3_instruction.json")
    options = BatchOptions(method=method, output=tmp_path, concurrency=8)
    async with open_planner(scripted_url, catalogue) as planner:
        await solve_queries(Speculating(planner), queries, options)
    expected = shared_data / "golden" / "seed7" / "G3_instruction" / method
    compared = compare(harness, expected, tmp_path)
    assert "20 of 20 trees equal" in compared.stdout, compared.stdout
