"""`toolwright ask`: solves one instruction and shows every step."""

import asyncio
import sys
from typing import Annotated, Final

import httpx
import typer
from pydantic import TypeAdapter

from cli.run_options import ModeOption, PromptsOption, SeedOption, ShowBudgetOption
from cli.runs import replayed
from cli.session import checked, connect
from cli.sources import SourcesOption, parse_ref, parse_sources
from cli.steps import StepPrinter
from services.contracts.clients.stream import parse_frame
from services.contracts.errors import DeadlineExceeded, InvalidArgument, Unavailable
from services.contracts.ids import RunId
from services.contracts.methods import DEFAULT_METHOD, parse_method
from services.contracts.planner import ApprovalAsked, PlanEvent, Queued, Retrieved, RunEnded

_EVENT: TypeAdapter[PlanEvent] = TypeAdapter(PlanEvent)
_SHOWN_CHARS: Final = 500


def ask(
    text: Annotated[str, typer.Argument(help="The instruction.")] = "",
    top_k: Annotated[int, typer.Option(min=1, max=100, help="APIs to retrieve.")] = 5,
    method: Annotated[str, typer.Option(help="Search method.")] = DEFAULT_METHOD,
    api: Annotated[
        list[str] | None,
        typer.Option(help="category/tool/api to offer instead of retrieving; repeat it."),
    ] = None,
    sources: SourcesOption = None,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Allow calls that change something.")
    ] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Be asked before each call that changes something.")
    ] = False,
    mode: ModeOption = "exact",
    prompts: PromptsOption = None,
    show_budget: ShowBudgetOption = False,
    seed: SeedOption = 0,
    replay: Annotated[
        str | None, typer.Option(help="Id of a kept run to be told again; nobody is asked.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Solve TEXT and stream the steps; exit status 0 only for an answer."""
    if replay is not None:
        raise typer.Exit(asyncio.run(replayed(RunId(replay), as_json=as_json)))
    if not text.strip():
        raise InvalidArgument("the instruction is empty; give it as one quoted argument")
    parse_method(method)
    body: dict[str, object] = {"text": text, "top_k": top_k, "method": method}
    if sources:
        body["sources"] = parse_sources(sources)
    if api:
        body["apis"] = [parse_ref(ref).model_dump() for ref in api]
    body |= {"allow_writes": allow_writes, "ask_approval": approve}
    body |= {"mode": mode, "prompts": prompts, "show_budget": show_budget, "seed": seed}
    ended = asyncio.run(_ask(body, as_json=as_json))
    raise typer.Exit(0 if ended.kind == "answered" else 1)


async def _ask(body: dict[str, object], *, as_json: bool) -> RunEnded:
    begun: list[RunId] = []
    try:
        return await _followed(body, begun, as_json=as_json)
    except (Unavailable, DeadlineExceeded) as exc:
        if not begun:
            raise
        hint = f"`toolwright runs resume {begun[-1]}` goes on with the run"
        raise type(exc)(f"{exc.detail}; {hint}") from exc


async def _followed(body: dict[str, object], begun: list[RunId], *, as_json: bool) -> RunEnded:
    """The end of the run; its id is in `begun` as soon as it is known."""
    printer = StepPrinter()
    async with connect() as client, client.stream("POST", "/v1/runs", json=body) as response:
        await checked(response)
        async for line in response.aiter_lines():
            event = parse_frame(_EVENT, line)
            if as_json:
                print(line, flush=True)
            else:
                printer.show(event)
            if isinstance(event, Queued | Retrieved) and event.run_id is not None:
                begun.append(event.run_id)
            elif isinstance(event, ApprovalAsked):
                path = f"/v1/runs/{begun[-1]}/calls/{event.call_id}"
                await _decide(client, path, event)
            elif isinstance(event, RunEnded):
                return event
    raise Unavailable("the gateway closed the stream without a result")


async def _decide(client: httpx.AsyncClient, path: str, asked: ApprovalAsked) -> None:
    """Ask on the terminal; no answer at all, as at the end of a pipe, is a refusal."""
    question = f"   allow {asked.api} ({asked.effect}) with {asked.arguments[:_SHOWN_CHARS]}?"
    try:
        is_approved = await asyncio.to_thread(typer.confirm, question, err=True)
    except typer.Abort:
        is_approved = False
    response = await client.post(path, json={"approve": is_approved})
    if response.status_code == httpx.codes.NOT_FOUND:
        print("   too late: the call counts as refused", file=sys.stderr)
        return
    await checked(response)
