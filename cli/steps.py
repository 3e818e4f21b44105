"""Shows a run's events on a terminal as they come."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.contracts.planner import (
    ApprovalAsked,
    Deliberated,
    ExpansionStarted,
    ModelReplied,
    PlanEvent,
    Queued,
    Retrieved,
    RunEnded,
    ToolFinished,
    ToolStarted,
)

_SHOWN_CHARS = 300
_DELIBERATION_CHARS = 80
_FINISH = "Finish"


class StepPrinter:
    """Prints retrieved APIs, then each step with its source and latency, then the answer."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._expanded: set[int] = set()
        self._started: dict[int, ToolStarted] = {}
        self._step = 0

    def show(self, event: PlanEvent) -> None:
        """Print one event, if there is anything to see in it."""
        match event:
            case Queued():
                self._console.print(f"[dim]waiting, position {event.position}[/]")
            case Retrieved():
                self._show_retrieved(event)
            case ExpansionStarted():
                self._show_expansion(event)
            case ModelReplied() if event.message.content:
                self._console.print(f"   [dim]{escape(_cut(event.message.content))}[/]")
            case Deliberated():
                words = _cut(f"{event.purpose}: {event.text}", _DELIBERATION_CHARS)
                self._console.print(f"   [dim]{escape(words)}[/]")
            case ApprovalAsked():
                name = escape(f"{event.api} ({event.effect})")
                left = f"within {event.expires_in_s:.0f} s"
                self._console.print(f"   [yellow]approval needed {left}:[/] {name}")
            case ToolStarted():
                self._started[event.call_id] = event
            case ToolFinished():
                self._show_call(event)
            case RunEnded():
                self._show_end(event)

    def _show_retrieved(self, event: Retrieved) -> None:
        scores = {hit.api: hit.score for hit in event.retrieved}
        table = Table(title="APIs offered to the model", title_justify="left", box=None)
        table.add_column("API", style="cyan")
        table.add_column("score", justify="right")
        for ref in event.function_apis.values():
            score = scores.get(ref)
            table.add_row(escape(str(ref)), f"{score:.3f}" if score is not None else "given")
        self._console.print(table)
        self._console.print(f"[dim]found in {event.latency_s * 1e3:.0f} ms[/]\n")

    def _show_expansion(self, event: ExpansionStarted) -> None:
        if event.node_id in self._expanded:
            self._console.print("[yellow] ↩ going back to try another way[/]")
        self._expanded.add(event.node_id)

    def _show_call(self, event: ToolFinished) -> None:
        call = self._started.pop(event.call_id)
        if call.function == _FINISH:
            return
        self._step += 1
        mark = "[green]✓[/]" if event.status == "ok" else "[red]✗[/]"
        name = escape(str(call.api) if call.api else call.function)
        if call.compensates is not None:
            name = f"undo: {name}"
        self._console.print(
            f"{self._step:>2} {mark} [bold]{name}[/] {escape(_cut(call.arguments))}"
        )
        source: str = event.source or "no tool"
        if source == "simulated":
            source = "simulated by a model"
        if event.age_s is not None:
            source += f" of an answer {_age(event.age_s)} old"
        if event.reused:
            source += ", reused from another branch"
        origin = f"{source}, {event.latency_s * 1e3:.1f} ms, {event.status}"
        self._console.print(f"   → {escape(_cut(event.observation))} [dim]({origin})[/]")

    def _show_end(self, event: RunEnded) -> None:
        cost = (
            f"{event.llm_calls} model calls, {event.tool_calls} tool calls, "
            f"{event.usage.total_tokens} tokens, {event.seconds:.1f} s"
        )
        if event.kind == "answered":
            self._console.print(f"\n[bold green]Answer:[/] {escape(event.answer or '')}")
        elif event.is_best_effort:
            ended_by = escape(event.reason or event.limit or "")
            self._console.print(f"\n[bold yellow]Best effort[/] (budget: {ended_by}):")
            self._console.print(escape(event.answer or ""))
        else:
            why = event.problem.detail if event.problem else event.reason
            ending = f"{event.kind}{f': {why}' if why else ''}"
            self._console.print(f"\n[bold red]No answer[/] ({escape(ending)})")
        self._console.print(f"[dim]{cost}[/]")
        if event.proposal is not None:
            hint = f": toolwright tools adopt {event.run_id} --dry-run" if event.is_kept else ""
            name = escape(_cut(event.proposal.name))
            self._console.print(f"[bold]A new tool is offered:[/] {name}{hint}")
        if event.is_kept:
            self._console.print(f"[dim]kept: toolwright runs show {event.run_id}[/]")


def _age(seconds: float) -> str:
    """The age in its largest whole unit."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _cut(text: str, limit: int = _SHOWN_CHARS) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= limit else f"{one_line[: limit - 1]}…"
