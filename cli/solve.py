"""`toolwright solve`: batch inference over a ToolBench query file."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from rich.progress import Progress

from cli.run_options import (
    MaxCostOption,
    MaxTokensOption,
    MaxToolCallsOption,
    ModeOption,
    PromptsOption,
    SeedOption,
    ShowBudgetOption,
)
from cli.sources import SourcesOption, parse_sources
from services.contracts.compat import NONE, TOOLBENCH
from services.contracts.errors import InvalidArgument
from services.contracts.methods import DEFAULT_METHOD, parse_method
from services.contracts.planner import Limits, Planner
from services.contracts.toolbench.queries import Query, read_queries
from services.contracts.toolenv import CallSource
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings
from services.planner.batch import BatchOptions, BatchReport, solve_queries
from services.planner.bootstrap import open_records, prices_of
from services.planner.budget import require_prices
from services.planner.journal.shelf import Shelf
from services.planner.runs import Continuing, FromRecords
from services.planner.settings import PlannerSettings


def solve(
    queries: Annotated[Path, typer.Option(help="ToolBench query file (JSON array).")],
    output: Annotated[Path, typer.Option(help="Folder of the answer files.")],
    method: Annotated[str, typer.Option(help="Search method.")] = DEFAULT_METHOD,
    open_domain: Annotated[bool, typer.Option(help="Let the retriever choose the APIs.")] = False,
    top_k: Annotated[int, typer.Option(min=1, max=100)] = 5,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Queries at once.")] = 1,
    tools_root: Annotated[Path | None, typer.Option(help="Tools tree of ToolBench.")] = None,
    toolenv_url: Annotated[
        str | None, typer.Option(help="ToolBench backend, e.g. http://host:8080/virtual.")
    ] = None,
    sources: SourcesOption = None,
    llm_base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server.")] = None,
    llm_model: Annotated[str | None, typer.Option(help="Model name on that server.")] = None,
    compat: Annotated[
        Literal["toolbench", "none"], typer.Option(help="Reproduce the reference's quirks?")
    ] = "toolbench",
    max_depth: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    max_llm_calls: Annotated[int, typer.Option(min=1, max=10_000)] = 200,
    max_observation_chars: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1024,
    allow_writes: Annotated[
        bool,
        typer.Option(
            "--allow-writes",
            help="Allow calls that change something; --compat toolbench always does.",
        ),
    ] = False,
    deadline_s: Annotated[float, typer.Option(min=1, help="Seconds per query.")] = 300.0,
    max_tool_calls: MaxToolCallsOption = None,
    max_tokens: MaxTokensOption = None,
    max_cost_usd: MaxCostOption = None,
    mode: ModeOption = "exact",
    prompts: PromptsOption = None,
    show_budget: ShowBudgetOption = False,
    seed: SeedOption = 0,
    replay: Annotated[
        Path | None,
        typer.Option(help="Folder of kept runs: solve from these alone, nobody is asked."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the kept runs of queries without an answer.")
    ] = False,
) -> None:
    """Solve every query that has no answer file yet; run it again to resume.

    Runs are kept in OUTPUT/runs: one that was interrupted goes on after its last recorded call.
    """
    parse_method(method)
    limits = Limits(
        max_depth=max_depth,
        max_llm_calls=max_llm_calls,
        max_observation_chars=max_observation_chars,
        max_tool_calls=max_tool_calls,
        max_tokens=max_tokens,
        max_cost_usd=max_cost_usd,
        deadline_s=deadline_s,
    )
    _require_possible(limits, replay)
    loaded = read_queries(queries)
    shared = SharedSettings()
    overrides = {"llm_base_url": llm_base_url, "llm_model": llm_model}
    shared = shared.model_copy(update={k: v for k, v in overrides.items() if v is not None})
    configure_logging("WARNING")
    options = BatchOptions(
        method=method,
        output=output,
        concurrency=concurrency,
        open_domain=open_domain,
        top_k=top_k,
        compat=TOOLBENCH if compat == "toolbench" else NONE,
        allow_writes=allow_writes,
        limits=limits,
        mode=mode,
        prompts=prompts,
        show_budget=show_budget,
        seed=seed,
    )
    if replay is not None:
        report = asyncio.run(_replay(loaded, options, shared, replay))
    else:
        host = HostChoices(
            tools_root=tools_root,
            toolenv_url=toolenv_url,
            sources=parse_sources(sources) if sources else None,
        )
        report = asyncio.run(_solve(loaded, options, shared, host, fresh=fresh))
    for name, count in sorted(report.counts.items()):
        print(f"{name}: {count}")
    for failure in report.failures:
        print(f"query {failure.query_id} failed: {failure.reason}")
    raise typer.Exit(0 if report.is_complete else 1)


class HostChoices(NamedTuple):
    """What the command decides about the system that it hosts."""

    tools_root: Path | None
    toolenv_url: str | None
    sources: tuple[CallSource, ...] | None


async def _solve(
    queries: Sequence[Query],
    options: BatchOptions,
    shared: SharedSettings,
    choices: HostChoices,
    *,
    fresh: bool,
) -> BatchReport:
    from infra.embedded.host import HostOptions, open_system  # heavy: sandbox and model

    shelf = Shelf.unlimited(options.output / "runs")
    host = HostOptions(
        **choices._asdict(),
        with_user_tools=choices.tools_root is None,
        runs=shelf,
        with_retriever=options.open_domain,
    )
    async with open_system(shared, host) as system:
        planner = system.planner
        return await _solved(Continuing(planner, planner, shelf, fresh=fresh), queries, options)


async def _replay(
    queries: Sequence[Query], options: BatchOptions, shared: SharedSettings, folder: Path
) -> BatchReport:
    async with open_records(Shelf.unlimited(folder), shared) as planner:
        return await _solved(FromRecords(planner), queries, options)


async def _solved(planner: Planner, queries: Sequence[Query], options: BatchOptions) -> BatchReport:
    with Progress(transient=True) as progress:
        task = progress.add_task("solving", total=len(queries))
        return await solve_queries(
            planner, queries, options, on_done=lambda _: progress.advance(task)
        )


def _require_possible(limits: Limits, replay: Path | None) -> None:
    """Refuse here what would be refused for each query."""
    if replay is None:
        require_prices(limits, prices_of(PlannerSettings()))
    elif not replay.is_dir():
        raise InvalidArgument(f"--replay {str(replay)!r} is no folder; OUTPUT/runs of a batch is")
