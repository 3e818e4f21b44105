"""`toolwright index`: builds and inspects the retriever's index."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.contracts.errors import FailedPrecondition
from services.contracts.retriever import IndexStatus
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings

app = typer.Typer(help="Build and inspect the index of API documents.", no_args_is_help=True)


@app.command()
def build(
    tools_root: Annotated[
        Path | None, typer.Option(help="Tools tree to index; the bundled one by default.")
    ] = None,
) -> None:
    """Build the index of a tools tree, or reopen it when nothing has changed."""
    configure_logging("ERROR")  # what is wrong comes as one line
    _show(asyncio.run(_build(tools_root)))


async def _build(tools_root: Path | None) -> IndexStatus:
    from infra.embedded.assets import bundled_tools
    from services.retriever.bootstrap import open_retriever
    from services.retriever.settings import RetrieverSettings
    from services.toolenv.catalog import load_catalogue

    catalogue = load_catalogue([tools_root or bundled_tools()])
    for refusal in catalogue.refusals:
        typer.echo(f"refused {refusal.file}: {refusal.field}: {refusal.reason}", err=True)
    async with open_retriever(RetrieverSettings(), SharedSettings()) as retriever:
        return await retriever.index(tuple(catalogue.documents()))


@app.command()
def status() -> None:
    """Show the index in force."""
    configure_logging("ERROR")  # what is wrong comes as one line
    found = asyncio.run(_status())
    if found is None:
        raise FailedPrecondition("no index was built yet; run `toolwright index build`")
    _show(found)


async def _status() -> IndexStatus | None:
    from services.retriever.bootstrap import open_retriever
    from services.retriever.settings import RetrieverSettings

    async with open_retriever(RetrieverSettings(), SharedSettings()) as retriever:
        return await retriever.status()


def _show(found: IndexStatus) -> None:
    how = "built" if found.rebuilt else "reopened"
    print(f"{found.n_documents} documents, version {found.version}, encoder {found.encoder}")
    print(f"{how} in {found.seconds:.2f} s")
