"""`toolwright runs`: what it prints."""

import json
from collections.abc import AsyncGenerator

import pytest
from typer.testing import CliRunner

from cli.runs import app, told
from services.contracts.errors import InvalidArgument
from services.contracts.planner import PlanEvent, RunEnded

pytestmark = pytest.mark.anyio


async def test_a_record_too_deep_for_json_is_left_out_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree: dict[str, object] = {}
    for _ in range(300):
        tree = {"children": [tree]}
    record = {"tree": {"tree": tree, "max_length": 300}}

    async def events() -> AsyncGenerator[PlanEvent, None]:
        yield RunEnded(kind="exhausted").model_copy(update={"record": record})

    assert await told(events(), as_json=True) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["record"] is None
    assert "300 levels" in printed["reason"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--arguments", "{}"], "--action"),
        (["--action", "hello", "--arguments", "[1]"], "'[1]' is no JSON object"),
        (["--action", "hello", "--arguments", "{n: 1}"], "'{n: 1}' is no JSON object"),
    ],
)
def test_arguments_of_a_fork_that_mean_nothing_are_refused(options: list[str], named: str) -> None:
    error = CliRunner().invoke(app, ["fork", "r", "--node", "3", *options]).exception
    assert isinstance(error, InvalidArgument)
    assert "--arguments" in error.detail
    assert named in error.detail
