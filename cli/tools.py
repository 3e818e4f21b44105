"""`toolwright tools`: the catalogue, its sources, validation, and calling one API by hand."""

import asyncio
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from cli import adopt, mcp, tool_sources
from cli.labels import label_of
from cli.session import checked, connect
from cli.sources import SourcesOption, parse_sources
from cli.tool_tests import kept_tests, run_tests
from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import InvalidArgument
from services.contracts.toolenv import ApiHealth, CallStatus, Observation, ToolCall

app = typer.Typer(help="Add, import, list, show, validate and call tools.", no_args_is_help=True)
app.command("add")(tool_sources.add)
app.command("adopt")(adopt.adopt)
app.command("remove")(tool_sources.remove_tool)
app.command("effect")(tool_sources.correct_effect)
app.command("export")(tool_sources.export)
app.add_typer(tool_sources.imports, name="import")
tool_sources.imports.command("mcp")(mcp.import_mcp)
app.command("quarantine")(mcp.quarantine)
app.command("approve")(mcp.approve)
app.command("pins")(mcp.list_pins)
_PAGE = 1_000
_DOCUMENTS = TypeAdapter(list[ApiDocument])
_HEALTH = TypeAdapter(list[ApiHealth])


@app.command("list")
def list_tools(
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List every API of the catalogue."""
    documents = asyncio.run(_catalogue())
    if as_json:
        print(_DOCUMENTS.dump_json(documents).decode())
        return
    table = Table(box=None)
    table.add_column("API", style="cyan", no_wrap=True)
    table.add_column("parameters")
    table.add_column("description")
    for document in documents:
        names = [p.name for p in document.required_parameters]
        names += [f"[{p.name}]" for p in document.optional_parameters]
        table.add_row(str(document.ref), ", ".join(names), document.description)
    Console().print(table)


async def _catalogue() -> list[ApiDocument]:
    documents: list[ApiDocument] = []
    async with connect() as client:
        while True:
            params = {"offset": len(documents), "limit": _PAGE}
            response = await checked(await client.get("/v1/tools", params=params))
            page = _DOCUMENTS.validate_json(response.content)
            documents += page
            if len(page) < _PAGE:
                return documents


@app.command()
def health(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Show how every API that was called, or lacks a credential, is doing."""
    found = asyncio.run(_health())
    if as_json:
        print(_HEALTH.dump_json(found).decode())
        return
    if not found:
        print("no API has been called yet, and none lacks a credential")
        return
    table = Table(box=None)
    table.add_column("API", style="cyan", no_wrap=True)
    for title in ("state", "calls", "success", "mean", "lacks"):
        table.add_column(title)
    for api in found:
        latency = "" if api.mean_latency_s is None else f"{api.mean_latency_s * 1e3:.1f} ms"
        rate = f"{api.success_rate:.2f}" if api.calls else ""
        lacks = ", ".join(api.missing_credentials)
        table.add_row(str(api.ref), api.state.value, str(api.calls), rate, latency, lacks)
    Console().print(table)


async def _health() -> list[ApiHealth]:
    async with connect() as client:
        response = await checked(await client.get("/v1/tools/health"))
        return _HEALTH.validate_json(response.content)


@app.command()
def show(api: Annotated[str, typer.Argument(help="category/tool/api")]) -> None:
    """Show one API's document."""
    print(asyncio.run(_show(_parse(api))).model_dump_json(indent=2))


async def _show(ref: ApiRef) -> ApiDocument:
    async with connect() as client:
        response = await client.get(f"/v1/tools/{ref}")
        return ApiDocument.model_validate_json((await checked(response)).content)


@app.command()
def call(
    api: Annotated[str, typer.Argument(help="category/tool/api")],
    arguments: Annotated[str, typer.Argument(help="JSON object of arguments.")] = "{}",
    sources: SourcesOption = None,
    user: Annotated[str | None, typer.Option(help="Whose credentials are used first.")] = None,
) -> None:
    """Run one API call; exit status 0 only when the tool succeeded.

    Standard output is the answer alone; where it came from is one line on standard error.
    """
    allowed = None if sources is None else parse_sources(sources)
    _run(ToolCall(api=_parse(api), arguments_text=arguments, sources=allowed, user=user))


@app.command()
def test(
    address: Annotated[
        str,
        typer.Argument(
            metavar="API",
            help="category/tool/api of a tool that was added; category/tool runs the tests kept "
            "beside it.",
        ),
    ],
    arguments: Annotated[str, typer.Argument(help="JSON object of arguments.")] = "{}",
) -> None:
    """Check a tool that was added, then run one call of it, or its tests; status 0 if all is well.

    Tests run in the sandbox without network.
    """
    category, _, tool = address.partition("/")
    is_tool = bool(tool) and "/" not in tool
    ref = None if is_tool else _parse(address)
    if ref is not None:
        category, tool = ref.category, ref.tool
    _check(category, tool)
    if ref is not None:
        _run(ToolCall(api=ref, arguments_text=arguments))
    results = run_tests(*kept_tests(tool_sources.user_root(), category, tool))
    for result in results:
        print(result)
    raise typer.Exit(1 if any(result.error for result in results) else 0)


def _check(category: str, tool: str) -> None:
    """End the command when a tool cannot be served."""
    from services.toolenv.validate import validate_tool

    problems = validate_tool(tool_sources.user_root() / category / f"{tool}.json")
    for problem in problems:
        print(str(problem))
    if problems:
        raise typer.Exit(1)


def _run(request: ToolCall) -> NoReturn:
    """Make one call, show it, and end the command."""
    observation = asyncio.run(_call(request))
    print(observation.content)
    typer.echo(label_of(observation), err=True)
    raise typer.Exit(0 if observation.status is CallStatus.OK else 1)


async def _call(request: ToolCall) -> Observation:
    async with connect() as client:
        response = await client.post("/v1/tools/call", content=request.model_dump_json())
        return Observation.model_validate_json((await checked(response)).content)


@app.command()
def validate(
    path: Annotated[Path, typer.Argument(help="A tool document, or a tools tree.")],
) -> None:
    """Check documents and their api.py without running them; name file, field and fix."""
    from services.toolenv.validate import validate_tool

    documents = sorted(path.glob("*/*.json")) if path.is_dir() else [path]
    if not documents:
        raise InvalidArgument(
            f"no tool document under {str(path)!r}: expected <Category>/<tool>.json"
        )
    problems = [problem for document in documents for problem in validate_tool(document)]
    for problem in problems:
        print(str(problem))
    print(f"{len(documents)} documents, {len(problems)} problems")
    raise typer.Exit(1 if problems else 0)


def _parse(text: str) -> ApiRef:
    try:
        return ApiRef.parse(text)
    except ValueError as exc:
        example = "Geography/city_atlas/distance_between_cities"
        raise InvalidArgument(
            f"{text!r} is not of the form category/tool/api, e.g. {example}"
        ) from exc
