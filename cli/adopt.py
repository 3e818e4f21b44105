"""`toolwright tools adopt`: takes a tool that a run made into the catalogue."""

import asyncio
import unicodedata
from dataclasses import replace as changed
from typing import Annotated

import typer

from cli import tool_sources
from cli.runs import events_of
from cli.tool_tests import run_tests
from services.contracts.errors import FailedPrecondition
from services.contracts.ids import RunId
from services.contracts.planner import RunEnded, ToolProposal


def adopt(
    run_id: Annotated[str, typer.Argument(help="Id of the run that made the tool.")],
    category: tool_sources.Category = None,
    name: tool_sources.Name = None,
    replace: tool_sources.Replace = False,
    dry_run: tool_sources.DryRun = False,
) -> None:
    """Show a tool that a run offers, test it once more in the sandbox, and add it with its tests.

    Its code was written by a model: read it first, with --dry-run.
    """
    from services.toolenv.importers.functions import import_functions

    offered = _offered(RunId(run_id))
    print(f"made for: {_readable(offered.instruction)}\n")
    print(_readable(offered.source))
    print(_readable(offered.tests))
    tool_name = name or offered.name
    tool = import_functions(
        offered.source.encode(), file=f"{tool_name}.py", name=tool_name, category=category
    )
    results = run_tests(tool.code or "", offered.tests)
    for result in results:
        print(_readable(str(result)))
    if offered.failed_tests:
        print(f"{offered.failed_tests} more tests that the model wrote did not pass in the run")
    if any(result.error for result in results):
        raise FailedPrecondition("a test fails: nothing was added")
    tool_sources.finish(
        [changed(tool, tests=offered.tests)], replace=replace, dry_run=dry_run, is_approved=True
    )


def _offered(run_id: RunId) -> ToolProposal:
    end = asyncio.run(events_of(run_id))[-1]
    if not isinstance(end, RunEnded) or end.proposal is None:
        raise FailedPrecondition(f"run {run_id!r} offers no tool; method CREATOR makes tools")
    return end.proposal


def _readable(text: str) -> str:
    """A model's text with what a terminal would obey, or not show, as escapes."""
    return "".join(
        char if char == "\n" or unicodedata.category(char)[0] != "C" else ascii(char)[1:-1]
        for char in text
    )
