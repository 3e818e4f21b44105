"""`toolwright credentials`: secrets of upstream APIs, stored encrypted in the home folder."""

import json
import sys
from typing import Annotated

import typer
from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.table import Table

from cli.session import explain
from services.contracts.errors import InvalidArgument
from services.kit.settings import SharedSettings
from services.toolenv.credentials import MAX_SECRET_CHARS, CredentialInfo, CredentialStore
from services.toolenv.extension import RAPIDAPI_CREDENTIAL
from services.toolenv.settings import ToolEnvSettings

app = typer.Typer(help="Store the keys of upstream APIs, encrypted.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="As tools name it, e.g. `rapidapi`.")]
User = Annotated[str | None, typer.Option(help="Only for calls of this user.")]
Tool = Annotated[str | None, typer.Option(help="Only for this category/tool.")]


@app.command("set")
def set_credential(
    name: Name,
    user: User = None,
    tool: Tool = None,
    any_tool: Annotated[
        bool, typer.Option(help="Send it wherever a document that names it says.")
    ] = False,
) -> None:
    """Store a secret; it is asked for, or read from standard input, and never an argument."""
    info = _info(name, user, tool)
    if tool is None and not any_tool and name != RAPIDAPI_CREDENTIAL:
        raise InvalidArgument(
            f"any document may name {name!r} and have it sent to a host of its own; say which "
            "tool gets it with --tool CATEGORY/TOOL, or --any-tool if all may"
        )
    if sys.stdin.isatty():
        secret = typer.prompt(f"secret for {name}", hide_input=True)
    else:
        secret = sys.stdin.read(MAX_SECRET_CHARS + 2).removesuffix("\n")
    _store().set(info, SecretStr(secret))
    print(f"stored {_describe(info)}; a running system uses it from the next call on")


@app.command("list")
def list_credentials(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Show what is stored, without the secrets."""
    stored = _store().names()
    if as_json:
        print(json.dumps([info.model_dump() for info in stored]))
        return
    table = Table("name", "user", "tool", box=None)
    for info in stored:
        table.add_row(info.name, info.user or "everybody", info.tool or "all that name it")
    Console().print(table if stored else "no credentials are stored")


@app.command("remove")
def remove_credential(name: Name, user: User = None, tool: Tool = None) -> None:
    """Forget one secret."""
    info = _info(name, user, tool)
    _store().remove(info)
    print(f"removed {_describe(info)}")


def _store() -> CredentialStore:
    folder = SharedSettings().toolwright_home / "toolenv"
    return CredentialStore(folder, key=ToolEnvSettings().read_credentials_key())


def _info(name: str, user: str | None, tool: str | None) -> CredentialInfo:
    try:
        return CredentialInfo(name=name, user=user, tool=tool)
    except ValidationError as exc:
        raise InvalidArgument(explain(exc)) from exc


def _describe(info: CredentialInfo) -> str:
    scope = [f"user {info.user}" if info.user else "", f"tool {info.tool}" if info.tool else ""]
    return f"credential {info.name!r} for {' and '.join(filter(None, scope)) or 'everybody'}"
