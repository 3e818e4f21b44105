"""MCP servers as sources of tools, and the approval of tools whose description changed.

The functions are commands; `cli.tools` registers them: `tools import mcp`, `tools quarantine`,
`tools approve`, `tools pins`.
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.tool_pins import tell_of_change, user_pins
from cli.tool_sources import tell_gateway, user_root
from services.contracts.errors import Unavailable
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.pins import descriptors


def import_mcp(
    name: Annotated[str, typer.Argument(help="Name of the server, that of its tool.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="After `--`: the program and its arguments.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Of a server that runs elsewhere.")] = None,
    category: Annotated[str, typer.Option(help="Category of its tools.")] = "MCP",
    env: Annotated[
        list[str] | None,
        typer.Option(help="VARIABLE=CREDENTIAL: environment variable filled from a credential."),
    ] = None,
    read: Annotated[
        list[Path] | None, typer.Option(help="File or folder that the server may read.")
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Let it use the network, all of it.")
    ] = False,
    memory_mb: Annotated[int, typer.Option(help="Most memory per process, MiB.")] = 1024,
    auth: Annotated[
        list[str] | None,
        typer.Option(help="bearer=CREDENTIAL or header:NAME=CREDENTIAL, with --url."),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="The URL may lead into this network.")
    ] = False,
) -> None:
    """Import the tools of an MCP server, a jailed local program or a URL."""
    # The SDK takes a second to import, which no other command should wait for.
    from cli.mcp_discovery import ServerOptions, import_server

    configure_logging("WARNING")
    options = ServerOptions(
        name=name,
        category=category,
        command=tuple(command or ()),
        url=url,
        env=tuple(env or ()),
        read=tuple(read or ()),
        network=network,
        memory_mb=memory_mb,
        auth=tuple(auth or ()),
        allow_private=allow_private,
    )
    tool = import_server(options, home=SharedSettings().toolwright_home, root=_root())
    tell_of_change([tool], user_root())
    tell_gateway()


def quarantine(
    tool: Annotated[str | None, typer.Argument(help="category/tool: show what changed.")] = None,
) -> None:
    """List the tools that are held back because their description changed, or show one change."""
    catalogue, pins = _installed(), user_pins()
    if tool is not None:
        lines = pins.difference(tool, catalogue)
        print("\n".join(lines) if lines else f"{tool} is as it was pinned")
        return
    known = pins.read()
    held = 0
    for key, descriptor in sorted(descriptors(catalogue.entries()).items()):
        pin = known.get("/".join(key))
        if pin is not None and pin.sha256 != descriptor.sha256:
            held += 1
            print(f"{'/'.join(key)}: {pin.sha256[:16]} -> {descriptor.sha256[:16]}")
    print(f"{held} tools held back", end="")
    print("; `toolwright tools quarantine TOOL` shows what changed" if held else "")


def approve(
    tool: Annotated[str, typer.Argument(help="category/tool")],
    sha256: Annotated[
        str | None, typer.Option(help="Approve this digest only; at least 8 of its digits.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Offer a tool again, with the description that it has now."""
    catalogue, pins = _installed(), user_pins()
    if sha256 is None:
        key = tuple(tool.split("/", 1))
        found = descriptors(catalogue.entries()).get((key[0], key[-1]))
        known = pins.read().get(tool)
        if found is not None and known is not None and not yes:
            print("\n".join(pins.difference(tool, catalogue)))
            typer.confirm(f"offer {tool} like this?", abort=True)
        sha256 = found.sha256 if found is not None else "0" * 64
    pin = pins.approve(tool, catalogue, sha256=sha256)
    print(f"approved {tool} as {pin.sha256[:16]}")
    tell_gateway()


def list_pins() -> None:
    """List the pinned tools."""
    table = Table(box=None)
    for title in ("tool", "sha256", "pinned", "by"):
        table.add_column(title, no_wrap=True)
    for tool, pin in sorted(user_pins().read().items()):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(pin.pinned_at))
        table.add_row(tool, pin.sha256[:16], when, "a person" if pin.is_approved else "first sight")
    Console().print(table)


def _root() -> Path:
    root = user_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise Unavailable(f"{str(root)!r} cannot be made: {exc.strerror}") from exc
    return root


def _installed() -> Catalogue:
    return load_catalogue((_root(),))
