"""The whole system, for real: retrieval, search, sandboxed tools, the bundled model, the queue."""

import asyncio
import itertools
import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest

from infra.embedded.assets import bundled_instructions, bundled_tools
from services.contracts.evaluator import ExpectedAnswer
from services.dataset.instructions import Instruction, draw_instructions, expected_answer
from services.dataset.intents import IntentLibrary
from services.evaluator.judge import judge
from services.kit.settings import SharedSettings
from services.toolenv.bootstrap import open_toolenv
from services.toolenv.settings import ToolEnvSettings
from tests.e2e.conftest import command

N_INSTRUCTIONS = 10
SEED = 1
LEAST_RIGHT = 5  # far below the measured rate: this test finds a broken system, not a weak model
AT_ONCE = 20

Line = dict[str, object]


@pytest.fixture(scope="module")
def instructions(home: Path) -> list[tuple[Instruction, ExpectedAnswer]]:
    """Test instructions with values drawn now, and answers computed by the tools now."""
    library = IntentLibrary.load(bundled_instructions())
    drawn = list(
        itertools.islice(draw_instructions(library, split="test", seed=SEED), N_INSTRUCTIONS)
    )

    async def solve() -> list[ExpectedAnswer]:
        settings = ToolEnvSettings(tools_roots=(bundled_tools(),))
        async with open_toolenv(settings, SharedSettings(toolwright_home=home)) as tools:
            return [await expected_answer(item, tools) for item in drawn]

    return list(zip(drawn, asyncio.run(solve()), strict=True))


def stream(client: httpx.Client, text: str, **body: object) -> list[Line]:
    response = client.post("/stream", json={"text": text, "top_k": 5, **body})
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.split("\n") if line]


def final_answer(lines: list[Line]) -> str | None:
    output = lines[-1].get("output")
    return json.loads(str(output))["final_answer"] if output is not None else None


def is_backtracked(lines: list[Line]) -> bool:
    """Whether some conversation was continued twice: a message marked as hidden proves it."""
    return any(
        isinstance(message, dict) and message.get("valid") is False
        for line in lines
        if line["method_name"] == "on_chain_start"
        for message in line["messages"]  # type: ignore[union-attr]
    )


@pytest.mark.timeout(300)
def test_unseen_instructions_are_answered_and_some_search_goes_back(
    client: httpx.Client,
    instructions: list[tuple[Instruction, ExpectedAnswer]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [(item, expected, stream(client, item.text)) for item, expected in instructions]
    right = [judge(final_answer(lines), expected).passed for _, expected, lines in runs]
    backtracked = [is_backtracked(lines) for _, _, lines in runs]
    with capsys.disabled():
        print(f"\n{sum(right)} of {len(right)} right, {sum(backtracked)} back-tracked")
    assert sum(right) >= LEAST_RIGHT
    assert any(backtracked)


@pytest.mark.timeout(300)
def test_twenty_runs_at_once_finish_with_their_own_answers_and_interleave(system: str) -> None:
    texts = [f"What is {n} kilometres in metres?" for n in range(101, 101 + AT_ONCE)]
    order: list[int] = []

    async def run(client: httpx.AsyncClient, number: int) -> list[Line]:
        lines = []
        body = {"text": texts[number], "top_k": 3, "method": "CoT@1"}
        async with client.stream("POST", "/stream", json=body) as response:
            async for line in response.aiter_lines():
                order.append(number)
                lines.append(json.loads(line))
        return lines

    async def run_all() -> list[list[Line]]:
        async with httpx.AsyncClient(base_url=system, timeout=240) as client:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run(client, n)) for n in range(AT_ONCE)]
            return [task.result() for task in tasks]

    runs = asyncio.run(run_all())
    for number, lines in enumerate(runs):
        started = next(line for line in lines if line["method_name"] == "on_request_start")
        assert started["user_input"] == texts[number]
        assert lines[-1]["method_name"] in ("on_request_end", "on_request_error")
    answers = {number: final_answer(lines) for number, lines in enumerate(runs)}
    given = {number: answer for number, answer in answers.items() if answer is not None}
    assert len(given) >= AT_ONCE // 2
    assert all(str(101 + number) in answer for number, answer in given.items())
    spans = [(order.index(n), len(order) - 1 - order[::-1].index(n)) for n in range(AT_ONCE)]
    first_end = min(end for _, end in spans)
    assert sum(start < first_end for start, _ in spans) >= 5


def test_the_stream_speaks_toolbenchs_protocol(client: httpx.Client) -> None:
    response = client.post("/stream", json={"text": "Is 97 a prime number?", "top_k": 3})
    assert response.text.isascii()
    lines = [json.loads(line) for line in response.text.split("\n") if line]
    names = [line["method_name"] for line in lines]
    assert names[:3] == ["on_tool_retrieval_start", "on_tool_retrieval_end", "on_request_start"]
    assert all(isinstance(line["block_id"], str) for line in lines)
    assert lines[1]["recommendations"][-1]["name"] == "Finish"


def test_bad_input_is_refused_by_name_and_the_next_request_works(client: httpx.Client) -> None:
    for body in ({"text": ""}, {"text": "x", "top_k": 0}, {"text": "x", "method": "NOPE"}):
        refused = client.post("/stream", json=body)
        assert refused.status_code == 400
        assert refused.headers["content-type"] == "application/problem+json"
    assert client.post("/stream", content=b"{" * 100).status_code == 400
    assert client.post("/stream", content=b"x" * 10_000_000).status_code == 413
    assert client.get("/methods").json()["methods"]


def test_a_tool_can_be_called_by_hand(client: httpx.Client) -> None:
    call = {
        "api": {"category": "Chemistry", "tool": "periodic_table", "api": "atomic_number"},
        "arguments_text": '{"element": "iron"}',
    }
    observation = client.post("/v1/tools/call", json=call).json()
    assert observation["source"] == "custom"
    assert observation["status"] == "ok"
    assert "26" in observation["content"]


def run_command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.mark.timeout(300)
def test_an_evaluation_runs_through_the_queue_and_reports_its_uncertainty(
    environment: dict[str, str], tmp_path: Path
) -> None:
    arguments = ("--set", "bundled-test", "--limit", "4", "--method", "dfsdt", "--method", "react")
    own_home = environment | {"TOOLWRIGHT_HOME": str(tmp_path)}
    done = run_command(own_home, "eval", "run", *arguments, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert [row["n"] + row["infrastructure_errors"] for row in report["methods"]] == [4, 4]
    assert [row["infrastructure_errors"] for row in report["methods"]] == [0, 0]
    assert all(row["interval_low"] <= row["pass_rate"] for row in report["methods"])
    assert len(list((tmp_path / "results").glob("*/*.json"))) == 8


@pytest.mark.timeout(300)
def test_a_batch_writes_answer_files_and_resumes(
    environment: dict[str, str], tmp_path: Path
) -> None:
    queries = json.loads((bundled_instructions() / "G1_test.json").read_text(encoding="utf-8"))[:3]
    (tmp_path / "queries.json").write_text(json.dumps(queries), encoding="utf-8")
    own_home = environment | {"TOOLWRIGHT_HOME": str(tmp_path / "home")}
    arguments = ("--queries", str(tmp_path / "queries.json"), "--output", str(tmp_path / "out"))
    done = run_command(own_home, "solve", *arguments, "--compat", "none", "--max-llm-calls", "8")
    assert done.returncode == 0, done.stderr[-3000:]
    files = sorted((tmp_path / "out").glob("*_DFS_woFilter_w2.json"))
    assert len(files) == 3
    before = [file.stat().st_mtime_ns for file in files]
    again = run_command(own_home, "solve", *arguments, "--compat", "none", "--max-llm-calls", "8")
    assert "skipped: 3" in again.stdout
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of one's own needs root here")
@pytest.mark.timeout(300)
def test_an_instruction_is_answered_without_any_network(environment: dict[str, str]) -> None:
    own_home = environment | {"TOOLWRIGHT_HOME": environment["TOOLWRIGHT_HOME"] + "-offline"}
    done = subprocess.run(
        ["unshare", "--net", *command("ask", "What is the atomic number of iron?")],
        env=own_home,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "26" in done.stdout


def test_a_command_names_what_is_wrong_with_its_input(environment: dict[str, str]) -> None:
    refused = run_command(environment, "ask", "x", "--method", "Oracle")
    assert refused.returncode == 2
    assert "unknown method 'Oracle'" in refused.stderr
    missing = run_command(environment, "solve", "--queries", "/nowhere.json", "--output", "out")
    assert missing.returncode == 2
    assert "/nowhere.json" in missing.stderr
