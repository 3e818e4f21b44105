"""`toolwright prompts`: the words around an instruction, ToolLLaMA's own included."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.contracts.compat import NONE
from services.kit.settings import SharedSettings
from services.planner.prompts.base import fingerprint
from services.planner.prompts.library import TOOLLLAMA, PromptLibrary

app = typer.Typer(no_args_is_help=True, help="Prompt profiles that a run can use.")
_SHORT_HASH_CHARS = 16


def _library() -> PromptLibrary:
    return PromptLibrary(SharedSettings().toolwright_home / "prompts")


@app.command("list")
def list_profiles() -> None:
    """Show the profiles that can be used, with the hash that answer files carry."""
    library = _library()
    table = Table(box=None)
    for column in ("profile", "version", "sha256", "texts"):
        table.add_column(column)
    for name in library.names():
        profile = library.profile(name, compat=NONE)
        digest = fingerprint(profile.texts)[:_SHORT_HASH_CHARS]
        table.add_row(name, str(profile.version), digest, ", ".join(profile.texts))
    console = Console(highlight=False)
    console.print(table)
    if TOOLLLAMA not in library.names():
        console.print(f"[dim]{TOOLLLAMA}: not imported; see `toolwright prompts import --help`[/]")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="Profile, see `prompts list`.")]) -> None:
    """Print every text of a profile."""
    console = Console(highlight=False, soft_wrap=True)
    for field, text in _library().profile(name, compat=NONE).texts.items():
        console.print(f"[bold]{field}[/] [dim]({len(text)} characters)[/]\n{escape(text)}\n")


@app.command("import")
def import_texts(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Published training files (toolllama_G123_dfs_train.json) or answer files."
        ),
    ],
) -> None:
    """Take the texts that ToolLLaMA was trained with from published files, as profile `toolllama`.

    Each text is checked against its known SHA-256. One training file has them all; a single answer
    file may lack some, and importing another one adds to what is there.
    """
    library = _library()
    for file in files:
        imported = library.import_file(file)
        print(f"{file.name}: {', '.join(imported.found)} (SHA-256 verified)")
    if imported.missing:
        print(f"still missing: {', '.join(imported.missing)}; import another file to add them")
    if TOOLLLAMA in library.names():
        print(f"profile {TOOLLLAMA!r} can be used: --prompts {TOOLLLAMA}")
