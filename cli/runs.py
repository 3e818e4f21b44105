"""`toolwright runs`: looks at kept runs, replays, resumes and forks them."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.run_tree import run_tree
from cli.session import CliSettings, connect, explain, gateway_answers
from cli.sources import parse_ref
from cli.steps import StepPrinter
from services.contracts.clients.planner import HttpPlanner
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.contracts.ids import RunId
from services.contracts.planner import (
    ForkedAction,
    ForkRequest,
    PlanEvent,
    RunEnded,
    RunKeeper,
    RunSummary,
)
from services.kit.settings import SharedSettings
from services.planner.bootstrap import open_records, shelf_of
from services.planner.record import fitted_to_wire
from services.planner.settings import PlannerSettings

app = typer.Typer(help="Look at kept runs, replay, resume and fork them.", no_args_is_help=True)
_RunArgument = Annotated[str, typer.Argument(help="Id of the run, see `runs list`.")]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")]
_INSTRUCTION_CHARS = 60
_SHOWN_CHARS = 200
_LIST_WIDTH = 320  # a run's id, of 128 characters at most, must not be cut where columns are few


@app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Runs to list.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """List the latest kept runs of this machine, newest first."""
    found = asyncio.run(_list(limit))
    if as_json:
        for run in found:
            print(run.model_dump_json())
        return
    table = Table(box=None)
    for column in ("run", "began", "method", "end", "model calls", "tool calls", "instruction"):
        table.add_column(column, no_wrap=True)
    for run in found:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started_at))
        text = " ".join(run.instruction.split())[:_INSTRUCTION_CHARS]
        counts = (str(run.llm_calls), str(run.tool_calls))
        table.add_row(run.run_id, began, run.method, run.kind, *counts, escape(text))
    Console(highlight=False, width=_LIST_WIDTH).print(table)


@app.command("show")
def show(run_id: _RunArgument, as_json: _JsonOption = False) -> None:
    """Show the tree of a run that ended, with the numbers of its nodes."""
    events = asyncio.run(events_of(RunId(run_id)))
    if as_json:
        for event in events:
            print(_json(event))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(run_tree(run_id, events))
    printer = StepPrinter()
    printer.show(events[-1])


@app.command("replay")
def replay(run_id: _RunArgument, as_json: _JsonOption = False) -> None:
    """Run it again from its record alone: neither model nor tool is asked."""
    raise typer.Exit(asyncio.run(replayed(RunId(run_id), as_json=as_json)))


@app.command("resume")
def resume(run_id: _RunArgument, as_json: _JsonOption = False) -> None:
    """Go on with a run that was interrupted; what its record holds is not asked again."""
    raise typer.Exit(asyncio.run(_resume(RunId(run_id), as_json=as_json)))


@app.command("fork")
def fork(
    run_id: _RunArgument,
    node: Annotated[int, typer.Option(min=0, help="Where to go on, see `runs show`.")],
    action: Annotated[str | None, typer.Option(help="Function to call there instead.")] = None,
    arguments: Annotated[
        str | None, typer.Option(help="JSON object of --action's arguments; {} by default.")
    ] = None,
    observation: Annotated[
        str | None, typer.Option(help="What the node is taken to have observed.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Search method below the node.")] = None,
    api: Annotated[
        list[str] | None, typer.Option(help="category/tool/api to offer from there; repeat it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the model below the node.")] = None,
    as_json: _JsonOption = False,
) -> None:
    """Start a new run from a node of a kept one; the path above it is not executed again."""
    try:
        request = ForkRequest(
            run_id=RunId(run_id),
            node_id=node,
            action=_action(action, arguments),
            observation=observation,
            method=method,
            apis=tuple(parse_ref(ref) for ref in api) if api else None,
            seed=seed,
        )
    except ValidationError as exc:
        raise InvalidArgument(explain(exc)) from exc
    raise typer.Exit(asyncio.run(_fork(request, as_json=as_json)))


def _action(function: str | None, arguments: str | None) -> ForkedAction | None:
    if function is None:
        if arguments is not None:
            raise InvalidArgument("--arguments are those of --action, which is missing; give both")
        return None
    text = arguments if arguments is not None else "{}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidArgument(f"--arguments {text[:_SHOWN_CHARS]!r} is no JSON object")
    return ForkedAction(function=function, arguments=text)


@asynccontextmanager
async def records() -> AsyncIterator[RunKeeper]:
    """The kept runs of this user's home, to look at; nobody can be asked."""
    shared = SharedSettings()
    shelf = shelf_of(PlannerSettings(), shared)
    if shelf is None:
        raise FailedPrecondition("PLANNER_KEEP_RUNS=0: no runs are kept")
    async with open_records(shelf, shared) as planner:
        yield planner


async def _played(run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
    """A run's replay: from this user's home, else from the running gateway."""
    has_begun = False
    try:
        async with records() as keeper, aclosing(keeper.replay(run_id)) as events:
            async for event in events:
                has_begun = True
                yield event
            return
    except (NotFound, FailedPrecondition):
        if has_begun or not await gateway_answers(CliSettings().url):
            raise
    async with connect() as client, aclosing(HttpPlanner(client).replay(run_id)) as events:
        async for event in events:
            yield event


async def told(events: AsyncGenerator[PlanEvent, None], *, as_json: bool) -> int:
    """Print a run's events as they come; the command's exit status, 0 only for an answer."""
    printer = StepPrinter()
    async with aclosing(events):
        async for event in events:
            if as_json:
                print(_json(event), flush=True)
            else:
                printer.show(event)
            if isinstance(event, RunEnded):
                return 0 if event.kind == "answered" else 1
    raise Unavailable("the events ended without a result")


def _json(event: PlanEvent) -> str:
    """An event as one line."""
    fitted = fitted_to_wire(event) if isinstance(event, RunEnded) else event
    return fitted.model_dump_json()


async def replayed(run_id: RunId, *, as_json: bool) -> int:
    """Replay a kept run and print it; returns as `told`."""
    return await told(_played(run_id), as_json=as_json)


async def _list(limit: int) -> list[RunSummary]:
    async with records() as keeper:
        return await keeper.runs(limit=limit)


async def events_of(run_id: RunId) -> list[PlanEvent]:
    """Every event of a kept run that ended."""
    return [event async for event in _played(run_id)]


async def _resume(run_id: RunId, *, as_json: bool) -> int:
    async with connect() as client:
        return await told(HttpPlanner(client).resume(run_id), as_json=as_json)


async def _fork(request: ForkRequest, *, as_json: bool) -> int:
    async with connect() as client:
        return await told(HttpPlanner(client).fork(request), as_json=as_json)
