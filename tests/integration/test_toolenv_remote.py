"""Every tool call of the golden trees, replayed on a scripted ToolBench backend."""

import asyncio
import itertools
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from services.contracts.apis import ApiRef
from services.contracts.toolbench.codes import status_of
from services.contracts.toolbench.names import function_name
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.kit.settings import SharedSettings
from services.toolenv.bootstrap import open_toolenv
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.settings import ToolEnvSettings

pytestmark = pytest.mark.anyio

MAX_OBSERVATION_CHARS = 1024
BACKEND_CODES = {0, 6, 7, 8, 9, 10, 11, 12}


class GoldenCall(NamedTuple):
    function: str
    arguments_text: str
    observation: str
    code: int


@pytest.fixture
async def backend_url(shared_data: Path, tmp_path: Path) -> AsyncIterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = shared_data.parent / "harness" / "fake_servers.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-B", str(script), "--port", str(port), "--seed", "7", cwd=tmp_path
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await configure(url)
        yield f"{url}/virtual"
    finally:
        process.kill()
        await asyncio.wait_for(process.wait(), 10)


async def configure(url: str) -> None:
    """Set the backend up as the golden runs had it, as soon as it listens."""
    async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                settings = {"rate_limit": True, "llm_latency": 0, "keep_trace": False}
                await http.post(f"{url}/config", json=settings)
                return
            except httpx.ConnectError:
                await asyncio.sleep(0.05)


def golden_calls(answer: dict[str, Any]) -> Iterator[GoldenCall]:
    """Calls of one answer file that went to the backend, as the reference recorded them."""
    paths = [attempt["chain"] for attempt in answer.get("trys", [])]
    if "tree" in answer:
        paths += pairs(answer["tree"]["tree"])
    for path in paths:
        for parent, node in itertools.pairwise(path):
            if node["node_type"] == "Action Input" and node["observation_code"] in BACKEND_CODES:
                yield GoldenCall(
                    parent["description"],
                    node["description"],
                    node["observation"],
                    node["observation_code"],
                )


def pairs(node: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Every edge of a tree, as a path of two nodes."""
    below = [edge for child in node["children"] for edge in pairs(child)]
    return [[node, child] for child in node["children"]] + below


def offered(query: dict[str, Any], catalogue: Catalogue) -> dict[str, ApiRef]:
    """Addresses of a query's APIs by the name under which the model calls them."""
    found = [
        catalogue.find(
            category_name=api["category_name"],
            tool_name=api["tool_name"],
            api_name=api["api_name"],
        )
        for api in query["api_list"]
    ]
    refs = [entry.document.ref for entry in found if entry is not None]
    return {function_name(ref.api, ref.tool): ref for ref in refs}


def truncated(observation: Observation) -> str:
    content = observation.content
    is_long = len(content) > MAX_OBSERVATION_CHARS
    return content[:MAX_OBSERVATION_CHARS] + "..." if is_long else content


def golden_work(
    golden: Path, catalogue: Catalogue
) -> tuple[list[ToolCall], list[tuple[str, CallStatus]]]:
    """Every call of all golden answer files, and what each must give."""
    calls, expected = [], []
    for queries in sorted((golden / "queries").glob("*.json")):
        functions = {
            str(query["query_id"]): offered(query, catalogue)
            for query in json.loads(queries.read_text(encoding="utf-8"))
        }
        for file in sorted((golden / "seed7" / queries.stem).glob("*/*.json")):
            known = functions[file.name.split("_")[0]]
            answer = json.loads(file.read_text(encoding="utf-8"))
            for call in golden_calls(answer):
                # The reference runs the first function whose name ends with the called one.
                ref = next(ref for name, ref in known.items() if name.endswith(call.function))
                calls.append(ToolCall(api=ref, arguments_text=call.arguments_text))
                expected.append((call.observation, status_of(call.code)))
    return calls, expected


async def test_every_golden_observation_and_status_is_reproduced(
    shared_data: Path, backend_url: str, tmp_path: Path
) -> None:
    tools = shared_data / "toolbench" / "tools"
    settings = ToolEnvSettings(
        tools_roots=(tools,),
        sources=("remote",),
        remote_url=backend_url,
        compat="toolbench",
    )
    calls, expected = golden_work(shared_data / "golden", load_catalogue([tools]))
    assert len(calls) == 561
    async with (
        asyncio.timeout(90),
        open_toolenv(settings, SharedSettings(toolwright_home=tmp_path)) as env,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(env.invoke(call)) for call in calls[:256]]
        for start in range(256, len(calls), 256):
            await asyncio.wait(tasks)
            tasks += [group.create_task(env.invoke(call)) for call in calls[start : start + 256]]
        await asyncio.wait(tasks)
    observed = [(truncated(task.result()), task.result().status) for task in tasks]
    assert observed == expected
