"""`toolwright solve`: what is refused once, before the first query."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from services.contracts.errors import InvalidArgument


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--replay", "no/such/folder"], "'no/such/folder' is no folder"),
        (["--max-cost-usd", "1"], "PLANNER_USD_PER_MILLION_PROMPT_TOKENS"),
    ],
)
def test_what_no_query_could_be_solved_with_is_refused_once(
    tmp_path: Path, options: list[str], named: str
) -> None:
    queries = tmp_path / "queries.json"
    queries.write_text(json.dumps([{"query_id": 1, "query": "say hello", "api_list": []}]))
    files = ["--queries", str(queries), "--output", str(tmp_path / "answers")]
    error = CliRunner().invoke(app, ["solve", *files, *options]).exception
    assert isinstance(error, InvalidArgument)
    assert named in error.detail
    assert not (tmp_path / "answers").exists()
