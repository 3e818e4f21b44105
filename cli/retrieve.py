"""`toolwright retrieve`: which APIs fit a text."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.session import checked, connect
from services.contracts.errors import InvalidArgument
from services.contracts.retriever import RetrieveRequest, RetrieveResult


def retrieve(
    text: Annotated[str, typer.Argument(help="What the APIs should be good for.")],
    top_k: Annotated[int, typer.Option(min=1, max=100)] = 5,
    explain: Annotated[bool, typer.Option(help="Show the parts of each score.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Rank the APIs of the catalogue for TEXT."""
    if not text:
        raise InvalidArgument("the text is empty; say what the APIs should be good for")
    result = asyncio.run(_retrieve(RetrieveRequest(query=text, top_k=top_k)))
    if as_json:
        print(result.model_dump_json())
        return
    table = Table(box=None)
    for column in ("rank", "API", "score", *(("parts",) if explain else ())):
        table.add_column(column)
    for hit in result.apis:
        parts = " ".join(f"{name}={value:.3f}" for name, value in hit.score_parts.items())
        row = [str(hit.rank), str(hit.api), f"{hit.score:.4f}"]
        table.add_row(*row, *((parts,) if explain else ()))
    Console().print(table)


async def _retrieve(request: RetrieveRequest) -> RetrieveResult:
    async with connect() as client:
        response = await client.post("/v1/retrieve", content=request.model_dump_json())
        return RetrieveResult.model_validate_json((await checked(response)).content)
