"""Sources of tools: importing, adding, removing and exporting them.

Tools are written into the user's own root, `TOOLWRIGHT_HOME/tools`, as a whole or not at all; a
running gateway is then told to read its sources again. `cli.tools` registers the commands.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import httpx
import typer
from pydantic import JsonValue, TypeAdapter, ValidationError

from cli.session import CliSettings, checked, gateway_answers
from cli.tool_pins import approve_changed, tell_of_change, user_pins
from services.contracts.apis import ApiRef, SideEffect
from services.contracts.errors import InvalidArgument, NotFound, ServiceError, Unavailable
from services.contracts.toolenv import CatalogueChange
from services.kit.settings import SharedSettings
from services.toolenv.catalog import (
    MAX_CODE_BYTES,
    MAX_REQUIREMENTS_BYTES,
    REQUIREMENTS_FILE,
    Catalogue,
    CatalogueEntry,
    load_catalogue,
)
from services.toolenv.egress.errors import EgressError, EgressRefused
from services.toolenv.egress.redirects import follow
from services.toolenv.egress.transport import EgressLimits, GuardedTransport, NameService
from services.toolenv.extension import EXTENSION_KEY
from services.toolenv.importers.imported import ImportedTool
from services.toolenv.importers.install import install, remove
from services.toolenv.importers.structured import MAX_BYTES
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.validate import validate_tool

imports = typer.Typer(help="Import tools from other formats.", no_args_is_help=True)

_FETCH_TIMEOUT_S: Final = 30.0
_RELOAD_TIMEOUT_S: Final = 120.0  # the index of a large catalogue is rebuilt
_CHANGE = TypeAdapter(CatalogueChange)

Category = Annotated[str | None, typer.Option(help="Category of the tool.")]
Name = Annotated[str | None, typer.Option(help="Name of the tool.")]
ServerUrl = Annotated[
    str | None, typer.Option("--server-url", help="Called instead of the document's servers.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the document; write nothing.")]
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite a tool of the same name.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="The URL may lead into this network.")
]
Source = Annotated[str, typer.Argument(help="File or URL.")]


def add(
    module: Annotated[Path, typer.Argument(help="Python module; its functions become APIs.")],
    category: Category = None,
    name: Name = None,
    requirements: Annotated[
        Path | None, typer.Option(help="requirements.txt with lines name==version.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Host that the code may reach by https.")
    ] = None,
    replace: Replace = False,
    dry_run: DryRun = False,
) -> None:
    """Add the functions of a Python module as a tool; the module is read, never run here."""
    from services.toolenv.importers.functions import import_functions

    tool = import_functions(
        _read(module, MAX_CODE_BYTES),
        file=module.name,
        name=name or module.stem,
        category=category,
        requirements=None if requirements is None else _read(requirements, MAX_REQUIREMENTS_BYTES),
        hosts=host or (),
    )
    # The user names a file of his own: that is the approval.
    finish([tool], replace=replace, dry_run=dry_run, is_approved=True)


@imports.command("openapi")
def import_openapi_document(
    source: Source,
    category: Category = None,
    name: Name = None,
    server_url: ServerUrl = None,
    allow_private: AllowPrivate = False,
    replace: Replace = False,
    dry_run: DryRun = False,
) -> None:
    """Import an OpenAPI 3.0 or 3.1 or Swagger 2.0 document, JSON or YAML."""
    from services.toolenv.importers.openapi import import_openapi

    tool = import_openapi(
        _content(source, allow_private=allow_private),
        file=_file_name(source),
        category=category,
        name=name,
        server_url=server_url,
        document_url=source if _is_url(source) else None,
    )
    finish([tool], replace=replace, dry_run=dry_run)


@imports.command("ai-plugin")
def import_plugin(
    source: Source,
    openapi: Annotated[
        Path | None, typer.Option(help="The OpenAPI document, instead of fetching it.")
    ] = None,
    category: Category = None,
    name: Name = None,
    server_url: ServerUrl = None,
    allow_private: AllowPrivate = False,
    replace: Replace = False,
    dry_run: DryRun = False,
) -> None:
    """Import a ChatGPT plugin manifest (ai-plugin.json) with its OpenAPI document."""
    from services.toolenv.importers.ai_plugin import import_ai_plugin

    manifest_url = source if _is_url(source) else None
    # A manifest may point anywhere; only its own host may lead into this network.
    private = frozenset({_authority(source)}) if allow_private and manifest_url else frozenset()
    tool = import_ai_plugin(
        _content(source, allow_private=allow_private),
        file=_file_name(source),
        openapi=None if openapi is None else _read(openapi, MAX_BYTES),
        fetch=partial(_fetched, private=private),
        manifest_url=manifest_url,
        category=category,
        name=name,
        server_url=server_url,
    )
    finish([tool], replace=replace, dry_run=dry_run)


@imports.command("toolbench")
def import_toolbench_documents(
    source: Annotated[str, typer.Argument(help="Tool document, tools tree, or URL of a document.")],
    category: Category = None,
    name: Name = None,
    allow_private: AllowPrivate = False,
    replace: Replace = False,
    dry_run: DryRun = False,
) -> None:
    """Import tools in ToolBench's layout: `<tool>.json`, with `<tool>/api.py` beside it."""
    from services.toolenv.importers.toolbench import import_toolbench

    if _is_url(source):
        content = _content(source, allow_private=allow_private)
        found = [import_toolbench(content, file=_file_name(source), category=category, name=name)]
    else:
        path = Path(source)
        documents = sorted(path.glob("*/*.json")) if path.is_dir() else [path]
        if not documents:
            raise InvalidArgument(
                f"no tool document under {source!r}: expected <Category>/<tool>.json"
            )
        if name is not None and len(documents) > 1:
            raise InvalidArgument(f"--name cannot name {len(documents)} tools")
        found = [
            import_toolbench(
                _read(document, MAX_BYTES),
                file=document.name,
                category=category or (document.parent.name if path.is_dir() else None),
                name=name,
                code=_beside(document, "api.py", MAX_CODE_BYTES),
                requirements=_beside(document, REQUIREMENTS_FILE, MAX_REQUIREMENTS_BYTES),
            )
            for document in documents
        ]
    finish(found, replace=replace, dry_run=dry_run, needs_code=False)


def remove_tool(tool: Annotated[str, typer.Argument(help="Category/tool")]) -> None:
    """Remove a tool that was added or imported; of an MCP server its definition too."""
    category, _, name = tool.partition("/")
    if not _forget_server(category, name):
        remove(user_root(), category, name)
    print(f"removed {tool}")
    user_pins().forget(tool)  # added again, it is seen for the first time
    tell_gateway()


def correct_effect(
    address: Annotated[str, typer.Argument(help="Category/tool/api, or Category/tool for all.")],
    effect: Annotated[
        Literal["read", "idempotent", "write", "irreversible", "declared"],
        typer.Argument(help="What a call does; `declared` takes a correction back."),
    ],
) -> None:
    """Correct what an API, or a whole tool, is said to do to the world."""
    from services.toolenv.effects import EffectBook

    chosen = None if effect == "declared" else SideEffect(effect)
    EffectBook(user_root()).correct(address, chosen, known=_catalogue())
    print(f"{address}: {'as its document says' if chosen is None else effect}")
    tell_gateway()


def export(
    file_format: Annotated[
        Literal["openai", "toolbench", "openapi"], typer.Option("--format", help="Format.")
    ] = "openai",
    api: Annotated[
        list[str] | None, typer.Option("--api", help="category/tool/api; all by default.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File to write; for `toolbench` a folder, which gets the code too."),
    ] = None,
) -> None:
    """Write tools as OpenAI functions, ToolBench documents, or an OpenAPI document."""
    from services.toolenv.exports import openai_tools, openapi_document, toolbench_documents

    entries = _chosen(api or [])
    documents = [entry.document for entry in entries]
    value: JsonValue
    if file_format == "toolbench":
        tools = toolbench_documents(entries)
        if output is not None:
            _write_tree(tools, entries, output)
            return
        value = list(tools.values())
    elif file_format == "openai":
        value = list(openai_tools(documents))
    else:
        value = openapi_document(documents, server_url=CliSettings().url)
    text = json.dumps(value, ensure_ascii=False, indent=2)
    if output is None:
        print(text)
    else:
        output.write_text(f"{text}\n", encoding="utf-8")
        print(f"wrote {len(documents)} APIs to {output}")


def _forget_server(category: str, name: str) -> bool:
    """Remove the MCP server that a tool is, with its document; whether it is one."""
    document = user_root() / category / f"{name}.json"
    try:
        content = json.loads(document.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    origin = content.get(EXTENSION_KEY) if isinstance(content, dict) else None
    if not isinstance(origin, dict) or origin.get("source") != "mcp":
        return False
    # The SDK takes a second to import, which other tools need not wait for.
    from services.toolenv.importers.mcp import remove_server

    try:
        remove_server(user_root(), name)
    except NotFound:  # its definition is gone already: the document is all that is left
        return False
    return True


def user_root() -> Path:
    """The tools root that belongs to the user."""
    return ToolEnvSettings().user_root or SharedSettings().toolwright_home / "tools"


def tell_gateway() -> None:
    """Have a running gateway read its sources again; nothing when none runs."""
    asyncio.run(_tell_gateway())


async def _tell_gateway() -> None:
    url = CliSettings().url
    if not await gateway_answers(url):
        return
    try:
        async with httpx.AsyncClient(base_url=url, timeout=_RELOAD_TIMEOUT_S) as client:
            response = await checked(await client.post("/v1/tools/reload"))
        change = _CHANGE.validate_json(response.content)
    except (httpx.HTTPError, ServiceError, ValidationError) as exc:
        print(f"the gateway at {url} did not reload ({exc}); restart it", file=sys.stderr)
        return
    counts = f"{len(change.added)} added, {len(change.removed)} removed"
    print(f"the gateway at {url} reloaded: {counts}, {len(change.changed)} changed")


def finish(
    tools: Sequence[ImportedTool],
    *,
    replace: bool,
    dry_run: bool,
    needs_code: bool = True,
    is_approved: bool = False,
) -> None:
    """Write tools into the user's root, or print them, and tell a running gateway.

    Args:
        tools: What an importer made.
        replace: Overwrite tools of the same name.
        dry_run: Print the documents instead.
        needs_code: See `validate_tool`.
        is_approved: The user has seen what the tools say of themselves.
    """
    for tool in tools:
        for refusal in tool.refusals:
            print(f"left out: {refusal}", file=sys.stderr)
        if dry_run:
            print(json.dumps(tool.document, ensure_ascii=False, indent=2))
            continue
        check = partial(validate_tool, needs_code=needs_code)
        path = install(user_root(), tool, check=check, replace=replace)
        count = len(TypeAdapter(list[JsonValue]).validate_python(tool.document["api_list"]))
        print(f"added {tool.category}/{tool.tool} with {count} APIs: {path}")
        for credential in credentials_of(path):
            owner = f"{tool.category}/{tool.tool}"  # narrowed: another tool may use its name too
            print(f"it needs: toolwright credentials set {credential} --tool {owner}")
    if not dry_run:
        settle = approve_changed if is_approved else tell_of_change
        settle([f"{tool.category}/{tool.tool}" for tool in tools], user_root())
        tell_gateway()


def credentials_of(document: Path) -> list[str]:
    """Names of the credentials that a written tool refers to, sorted."""
    loaded = load_catalogue((document.parent.parent,)).entries()
    return sorted(
        {
            placement.credential
            for entry in loaded
            if entry.document.ref.tool == document.stem
            for placement in getattr(entry.endpoint, "auth", ())
        }
    )


def _catalogue() -> Catalogue:
    """What an embedded system would serve."""
    # The package of the embedded system is imported by the commands that need it only.
    from infra.embedded.assets import bundled_tools
    from infra.embedded.settings import EmbeddedSettings

    roots = [EmbeddedSettings().tools_root or bundled_tools()]
    roots += [root for root in (user_root(),) if root.is_dir()]
    return load_catalogue(roots)


def _chosen(refs: Sequence[str]) -> list[CatalogueEntry]:
    catalogue = _catalogue()
    if not refs:
        return catalogue.entries()
    chosen = []
    for text in refs:
        try:
            entry = catalogue.get(ApiRef.parse(text))
        except ValueError as exc:
            raise InvalidArgument(str(exc)) from exc
        if entry is None:
            raise NotFound(f"no API {text!r}; `toolwright tools list` shows what there is")
        chosen.append(entry)
    return chosen


def _write_tree(
    tools: dict[str, dict[str, JsonValue]], entries: Sequence[CatalogueEntry], output: Path
) -> None:
    sources = {
        f"{entry.document.category_name}/{entry.document.ref.tool}": entry for entry in entries
    }
    for file, document in tools.items():
        category, _, stem = file.removesuffix(".json").partition("/")
        entry = sources[f"{category}/{stem}"]
        tool = ImportedTool(
            category=category,
            tool=stem,
            document=document,
            code=None if entry.code is None else entry.code.source,
            requirements="".join(f"{line}\n" for line in entry.dependencies) or None,
        )
        install(output, tool, check=lambda _: [])
    print(f"wrote {len(tools)} tools to {output}")


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        if not path.is_file():
            raise InvalidArgument(f"{str(path)!r} does not exist or is no regular file")
        with path.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except OSError as exc:
        raise InvalidArgument(f"{str(path)!r} cannot be read: {exc.strerror}") from exc
    if len(content) > limit_bytes:
        raise InvalidArgument(f"{str(path)!r} exceeds the limit of {limit_bytes} bytes")
    return content


def _beside(document: Path, name: str, limit_bytes: int) -> bytes | None:
    path = document.parent / document.name.split(".", 1)[0] / name
    return _read(path, limit_bytes) if path.exists() else None


def _is_url(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _file_name(source: str) -> str:
    path = urlsplit(source).path if _is_url(source) else source
    return path.rstrip("/").rpartition("/")[2] or "document"


def _authority(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _content(source: str, *, allow_private: bool) -> bytes:
    if not _is_url(source):
        return _read(Path(source), MAX_BYTES)
    return _fetched(source, private=frozenset({_authority(source)} if allow_private else ()))


def _fetched(url: str, *, private: frozenset[str]) -> bytes:
    """The body at a URL, within bounds of size, time and address."""
    try:
        return asyncio.run(_fetch(url, private))
    except EgressRefused as exc:
        hint = "--allow-private fetches from this network"
        raise Unavailable(f"{url.split('?')[0]!r} is not fetched: {exc} ({hint})") from exc
    except (httpx.HTTPError, httpx.InvalidURL, EgressError) as exc:
        raise Unavailable(f"{url.split('?')[0]!r} cannot be fetched: {exc}") from exc


async def _fetch(url: str, private: frozenset[str]) -> bytes:
    limits = EgressLimits(total_s=_FETCH_TIMEOUT_S, response_bytes=MAX_BYTES)
    transport = GuardedTransport(names=NameService(allow_private=private), limits=limits)
    async with httpx.AsyncClient(transport=transport, timeout=_FETCH_TIMEOUT_S) as client:
        request = client.build_request("GET", url)
        response = await follow(client, request, is_allowed=lambda _: True)
        try:
            if not response.is_success:
                raise InvalidArgument(f"{url.split('?')[0]!r} answers {response.status_code}")
            return await response.aread()
        finally:
            await response.aclose()
