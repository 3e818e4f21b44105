"""`toolwright ask`: solves one instruction and shows every step."""

import asyncio
from typing import Annotated

import typer
from pydantic import TypeAdapter

from cli.session import checked, connect
from cli.sources import SourcesOption, parse_sources
from cli.steps import StepPrinter
from services.contracts.apis import ApiRef
from services.contracts.clients.stream import parse_frame
from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.methods import DEFAULT_METHOD, parse_method
from services.contracts.planner import PlanEvent, RunEnded

_EVENT: TypeAdapter[PlanEvent] = TypeAdapter(PlanEvent)


def ask(
    text: Annotated[str, typer.Argument(help="The instruction.")],
    top_k: Annotated[int, typer.Option(min=1, max=100, help="APIs to retrieve.")] = 5,
    method: Annotated[str, typer.Option(help="Search method.")] = DEFAULT_METHOD,
    api: Annotated[
        list[str] | None,
        typer.Option(help="category/tool/api to offer instead of retrieving; repeat it."),
    ] = None,
    sources: SourcesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Solve TEXT and stream the steps; exit status 0 only for an answer."""
    if not text.strip():
        raise InvalidArgument("the instruction is empty; give it as one quoted argument")
    parse_method(method)
    body: dict[str, object] = {"text": text, "top_k": top_k, "method": method}
    if sources:
        body["sources"] = parse_sources(sources)
    if api:
        body["apis"] = [_parse_ref(ref).model_dump() for ref in api]
    ended = asyncio.run(_ask(body, as_json=as_json))
    raise typer.Exit(0 if ended.kind == "answered" else 1)


def _parse_ref(text: str) -> ApiRef:
    try:
        return ApiRef.parse(text)
    except ValueError as exc:
        raise InvalidArgument(f"--api {text!r} is not of the form category/tool/api") from exc


async def _ask(body: dict[str, object], *, as_json: bool) -> RunEnded:
    printer = StepPrinter()
    async with connect() as client, client.stream("POST", "/v1/runs", json=body) as response:
        await checked(response)
        async for line in response.aiter_lines():
            event = parse_frame(_EVENT, line)
            if as_json:
                print(line, flush=True)
            else:
                printer.show(event)
            if isinstance(event, RunEnded):
                return event
    raise Unavailable("the gateway closed the stream without a result")
