"""Imports an MCP server for the command line: starts it once, lists its tools, writes them down."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from cli.session import explain
from services.contracts.errors import InvalidArgument, Unavailable
from services.toolenv.credentials import CredentialStore
from services.toolenv.egress.transport import EgressLimits, GuardedTransport, NameService
from services.toolenv.importers.mcp import ImportedServer, import_listing, save_server
from services.toolenv.mcp_servers import (
    HttpTransport,
    McpProblem,
    McpServerDefinition,
    McpServers,
    SingleDefinition,
    StdioTransport,
)
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.validate import validate_tool

_START_LIMIT_S = 60.0  # a server that compiles itself at its first start


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the command line says about a server; see `cli.mcp.import_mcp`."""

    name: str
    category: str
    command: tuple[str, ...]
    url: str | None
    env: tuple[str, ...]
    read: tuple[Path, ...]
    network: bool
    memory_mb: int
    auth: tuple[str, ...]
    allow_private: bool


def import_server(options: ServerOptions, *, home: Path, root: Path) -> str:
    """Import a server into the user's tools root and print what was done.

    Returns:
        `category/tool`.

    Raises:
        InvalidArgument: The options are wrong, or the server has no usable tool.
        Unavailable: It cannot be reached, or the files cannot be written.
    """
    definition = _definition(options)
    imported = asyncio.run(_discover(definition, home=home, allow_private=options.allow_private))
    path = save_server(root, imported, check=validate_tool)
    _report(imported, path)
    return f"{imported.tool.category}/{imported.tool.tool}"


def _definition(options: ServerOptions) -> McpServerDefinition:
    try:
        if options.url is not None and not options.command:
            reach: StdioTransport | HttpTransport = HttpTransport.model_validate(
                {"url": options.url, "auth": [_placement(text) for text in options.auth]}
            )
        elif options.command and options.url is None:
            reach = _stdio(options)
        else:
            raise InvalidArgument("give either --url URL or -- COMMAND ARGS…")
        return McpServerDefinition(name=options.name, category=options.category, reach=reach)
    except ValidationError as exc:
        raise InvalidArgument(explain(exc)) from exc


def _stdio(options: ServerOptions) -> StdioTransport:
    """The definition of a local server; files that its command line names may be read."""
    program = _program(options.command[0])
    args, paths = [], [str(path.absolute()) for path in options.read]
    for arg in options.command[1:]:
        is_file = not arg.startswith("-") and os.path.isfile(arg)
        args.append(os.path.abspath(arg) if is_file else arg)
        paths += [args[-1]] if is_file else []
    variables = {}
    for text in options.env:
        variable, _, credential = text.partition("=")
        variables[variable] = credential or variable
    return StdioTransport.model_validate(
        {
            "command": program,
            "args": args,
            "env": variables,
            "read_paths": list(dict.fromkeys(paths)),
            "network": options.network,
            "memory_mb": options.memory_mb,
        }
    )


def _program(word: str) -> str:
    """The absolute path of a program, looked up as the caller's shell would.

    Links are kept: the python of a virtual environment is one, and finds its packages by its path.
    """
    if os.sep in word:
        return os.path.abspath(word)
    found = shutil.which(word)
    if found is None:
        raise InvalidArgument(
            f"there is no program {word!r} on PATH; install it, or give its path, as in ./{word}"
        )
    return os.path.abspath(found)


def _placement(text: str) -> dict[str, str]:
    where, _, credential = text.partition("=")
    kind, _, name = where.partition(":")
    if not credential or kind not in ("bearer", "basic", "header", "query", "cookie"):
        raise InvalidArgument(
            f"--auth {text!r} must be bearer=CREDENTIAL or header:NAME=CREDENTIAL"
        )
    return {"kind": kind, "name": name, "credential": credential}


async def _discover(
    definition: McpServerDefinition, *, home: Path, allow_private: bool
) -> ImportedServer:
    reach = definition.reach
    private: frozenset[str] = frozenset()
    if allow_private and isinstance(reach, HttpTransport):
        parts = urlsplit(reach.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        private = frozenset({f"{parts.hostname}:{port}"})
    transport = GuardedTransport(
        names=NameService(allow_private=private), limits=EgressLimits(total_s=_START_LIMIT_S)
    )
    store = CredentialStore(home / "toolenv", key=ToolEnvSettings().read_credentials_key())
    async with (
        transport,
        McpServers(
            SingleDefinition(definition),
            transport=transport,
            lookup=store.lookup,
            hidden=(home,),
        ) as servers,
    ):
        try:
            listing = await servers.listing(definition.name, limit_s=_START_LIMIT_S)
        except McpProblem as exc:
            raise Unavailable(f"nothing was imported: {exc}") from exc
    return import_listing(definition, listing)


def _report(imported: ImportedServer, path: Path) -> None:
    for refusal in imported.tool.refusals:
        print(str(refusal))
    print(f"imported {len(imported.definition.tools or {})} APIs into {path}")
    reach = imported.definition.reach
    if isinstance(reach, StdioTransport):
        shown = ", ".join(reach.read_paths) or "nothing of yours"
        network = "uses the network" if reach.network else "has no network"
        print(f"the server runs in a jail: it reads {shown}, and {network}")
