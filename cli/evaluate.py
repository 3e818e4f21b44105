"""`toolwright eval`: measures how many instructions are answered correctly."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from services.contracts.evaluator import MeanCost, Report
from services.contracts.methods import COMPARED_METHODS, DEFAULT_METHOD, parse_method
from services.evaluator.bootstrap import open_results
from services.evaluator.report import summarise
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings

app = typer.Typer(help="Evaluate methods on instructions.", no_args_is_help=True)


SetName = Annotated[
    str, typer.Option("--set", help="bundled-test, bundled-dev, bundled-transfer or a query file.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="A seeded choice of N.")]
Seed = Annotated[int, typer.Option(help="Seed of that choice.")]
Campaign = Annotated[str | None, typer.Option(help="Name of the results' folder.")]
AsJson = Annotated[bool, typer.Option("--json")]


@app.command()
def run(
    set_name: SetName = "bundled-test",
    method: Annotated[list[str] | None, typer.Option(help="Search method; repeat it.")] = None,
    limit: Limit = None,
    seed: Seed = 0,
    open_domain: Annotated[bool, typer.Option(help="Let the retriever choose the APIs.")] = False,
    top_k: Annotated[int, typer.Option(min=1, max=100)] = 5,
    campaign: Campaign = None,
    as_json: AsJson = False,
) -> None:
    """Solve and judge each instruction with each METHOD; results that exist are kept."""
    found = _evaluated(
        method or [DEFAULT_METHOD],
        set_name=set_name,
        limit=limit,
        seed=seed,
        open_domain=open_domain,
        top_k=top_k,
        campaign=campaign,
    )
    _print(found, as_json=as_json)


@app.command()
def ablation(
    set_name: SetName = "bundled-test",
    limit: Limit = None,
    seed: Seed = 0,
    campaign: Campaign = None,
    as_json: AsJson = False,
) -> None:
    """Compare every search method on the same instructions: pass rate, calls, tokens, seconds.

    Methods that the model cannot follow are named with the reason.
    """
    found = _evaluated(
        COMPARED_METHODS,
        set_name=set_name,
        limit=limit,
        seed=seed,
        open_domain=False,
        top_k=5,
        campaign=campaign,
    )
    if as_json:
        print(found.model_dump_json())
        return
    _print_costs(found)


def _evaluated(
    names: Sequence[str],
    *,
    set_name: str,
    limit: int | None,
    seed: int,
    open_domain: bool,
    top_k: int,
    campaign: str | None,
) -> Report:
    from infra.embedded.evaluation import campaign_name, load_set, run_campaign  # heavy
    from services.llm.settings import LlmSettings

    methods = [parse_method(name).name for name in names]
    shared = SharedSettings()
    configure_logging("WARNING")
    queries = load_set(set_name, limit=limit, seed=seed)
    with Progress(transient=True) as progress:
        task = progress.add_task("evaluating", total=len(queries) * len(methods))
        return asyncio.run(
            run_campaign(
                queries,
                shared=shared,
                campaign=campaign or campaign_name(set_name, shared, LlmSettings().constrain),
                methods=methods,
                open_domain=open_domain,
                top_k=top_k,
                seed=seed,
                on_done=lambda _: progress.advance(task),
            )
        )


@app.command()
def report(
    campaign: Annotated[str, typer.Argument(help="Name of the results' folder.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Summarise the results of an earlier campaign."""
    results = open_results(SharedSettings()).campaign(campaign)
    _print(summarise(campaign, results), as_json=as_json)


def _print(found: Report, *, as_json: bool) -> None:
    if as_json:
        print(found.model_dump_json())
        return
    table = Table(title=f"campaign {found.campaign}", title_justify="left", box=None)
    columns = ("method", "pass rate", "95 % interval", "n", "passed", "infra errors")
    for column in (*columns, "back-tracked", "model calls", "seconds"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in found.methods:
        rate = "-" if row.pass_rate is None else f"{row.pass_rate:.1%}"
        bounds = _interval(row.interval_low, row.interval_high)
        counts = (row.n, row.passed, row.infrastructure_errors, row.backtracked)
        n, passed, errors, backtracked = map(str, counts)
        means = (f"{row.mean_llm_calls:.1f}", f"{row.mean_seconds:.1f}")
        table.add_row(row.method, rate, bounds, n, passed, errors, backtracked, *means)
    console = Console(highlight=False)
    console.print(table)
    for pair in found.differences:
        bounds = _interval(pair.interval_low, pair.interval_high)
        console.print(
            f"{pair.method} - {pair.baseline}: {pair.difference:+.1%} {bounds}, n={pair.n}"
        )
    _print_left_out(found)


def _print_costs(found: Report) -> None:
    """The table of an ablation, in Markdown, so that it can go into a document as it is."""
    print("| method | pass rate | model calls | tool calls | tokens | seconds | n | infra errors |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in found.methods:
        rate = "-" if row.pass_rate is None else f"{row.pass_rate:.1%}"
        costs = (row.llm_calls, row.tool_calls, row.tokens, row.seconds)
        cells = [
            row.method,
            f"{rate} {_interval(row.interval_low, row.interval_high)}",
            *(_cost(cost) for cost in costs),
            str(row.n),
            str(row.infrastructure_errors),
        ]
        print(f"| {' | '.join(cells)} |")
    print("\nIn brackets: 95 % intervals (Wilson for rates, bootstrap for means per instruction).")
    _print_left_out(found)


def _cost(cost: MeanCost | None) -> str:
    if cost is None:
        return "-"
    return f"{cost.mean:,.4g} [{cost.interval_low:,.4g}, {cost.interval_high:,.4g}]"


def _print_left_out(found: Report) -> None:
    for method, reason in found.left_out.items():
        print(f"left out: {method}: {reason}")


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:.1%}, {high:.1%}]"
