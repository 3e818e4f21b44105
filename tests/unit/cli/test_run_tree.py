"""The drawn tree shows every call with the number that a fork takes."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from cli.run_tree import run_tree
from services.contracts.planner import ToolStarted
from tests.fakes.kept_runs import World, drawn, heard, request

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["DFS_woFilter_w2", "CoT@2", "BFS_w2"])
async def test_every_call_is_drawn_once_with_its_node(tmp_path: Path, method: str) -> None:
    events = await heard(World(tmp_path, drawn(3)).planner().solve(request(method)))
    text = io.StringIO()
    Console(width=200, file=text).print(run_tree("r", events))
    lines = [line.lstrip("│├└─ \N{NO-BREAK SPACE}") for line in text.getvalue().splitlines()]
    calls = [event for event in events if isinstance(event, ToolStarted)]
    assert calls
    for call in calls:
        name = str(call.api) if call.api is not None else call.function
        drawn_lines = [line for line in lines if line.startswith(f"{call.input_node_id} {name}")]
        assert len(drawn_lines) == 1
