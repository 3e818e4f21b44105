"""Imports an MCP server: what it lists becomes one tool document of ToolBench's layout.

Everything a server says is hostile: texts are bounded and stripped of invisible characters, a tool
that cannot be used is refused by name, and its hints about side effects are kept as what they are,
the server's claims, for an operator to look at before approving them.
"""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import mcp_types as types
from pydantic import JsonValue

from services.contracts.apis import SideEffect
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.toolbench.names import api_identifier
from services.toolenv.documents import MAX_PARAMETERS, Refusal
from services.toolenv.endpoints import McpEndpoint
from services.toolenv.extension import EXTENSION_KEY, ToolExtension
from services.toolenv.importers.imported import (
    MAX_API_NAME_CHARS,
    ImportedApi,
    ImportedParameter,
    ImportedTool,
    make_tool,
)
from services.toolenv.importers.install import install, remove
from services.toolenv.jsonvalues import outside_reference
from services.toolenv.mcp_servers import (
    Definitions,
    HttpTransport,
    Listing,
    McpServerDefinition,
)
from services.toolenv.mcp_servers.session import tool_digest

MAX_DESCRIPTION_CHARS: Final = 4096
"""Longest description that is kept; what is beyond would crowd out the model's other tools."""
MAX_SCHEMA_BYTES: Final = 32 << 10
"""Longest schema of one parameter."""
_CUT: Final = " […]"
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


class ImportedServer(NamedTuple):
    """What an import gives, not yet written anywhere."""

    tool: ImportedTool
    definition: McpServerDefinition
    """The definition with the digests of the imported tools."""


class _Refused(Exception):
    def __init__(self, field: str, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.field, self.reason, self.fix = field, reason, fix


def import_listing(definition: McpServerDefinition, listing: Listing) -> ImportedServer:
    """Translate what a server lists; pure.

    Raises:
        InvalidArgument: No tool is usable; the detail names the first reason.
    """
    source = f"MCP server {definition.name}"
    apis: list[ImportedApi] = []
    refusals: list[Refusal] = []
    for tool in listing.tools:
        where = f"tool {tool.name[:MAX_API_NAME_CHARS]!r}"
        try:
            apis.append(_api(tool, definition.name))
        except _Refused as exc:
            refusals.append(Refusal(source, f"{where}: {exc.field}", exc.reason, exc.fix))
            continue
        length = len(tool.description or "")
        if length > MAX_DESCRIPTION_CHARS:
            reason = f"{length} characters were cut to {MAX_DESCRIPTION_CHARS}"
            refusals.append(Refusal(source, f"{where}: description", reason, "shorten it"))
    imported = make_tool(
        apis,
        category=definition.category,
        name=definition.name,
        description=_description(listing),
        origin=_origin(definition, listing),
        refusals=refusals,
    )
    entries = imported.document["api_list"]
    names = [entry.get("name") for entry in _objects(entries)]
    if not names:
        first = str(imported.refusals[0]) if imported.refusals else f"{source} lists no tools"
        raise InvalidArgument(f"nothing to import: {first}")
    digests = {tool.name: tool_digest(tool) for tool in listing.tools if tool.name in names}
    return ImportedServer(imported, definition.model_copy(update={"tools": digests}))


def _objects(value: JsonValue) -> list[dict[str, JsonValue]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def save_server(
    root: Path, imported: ImportedServer, *, check: Callable[[Path], list[Refusal]]
) -> Path:
    """Write the document and the definition of an imported server, replacing earlier ones.

    Between the two writes a changed tool is refused, never called with an old description.

    Args:
        root: The user's tools root.
        imported: What `import_listing` gave.
        check: See `install`.

    Returns:
        The document's path.

    Raises:
        FailedPrecondition: A tool of this name came from elsewhere.
        InvalidArgument: The document is not valid, or there are too many servers.
        Unavailable: The folder cannot be written.
    """
    tool = imported.tool
    existing = root / tool.category / f"{tool.tool}.json"
    if existing.exists() and not _is_from_mcp(existing):
        raise FailedPrecondition(
            f"{tool.category}/{tool.tool} exists already and is no MCP server; choose another name"
        )
    path = install(root, tool, check=check, replace=True)
    Definitions(root).put(imported.definition)
    return path


def remove_server(root: Path, name: str) -> McpServerDefinition:
    """Forget a server and remove its document; calls in flight end with an error.

    Raises:
        NotFound: There is none of this name.
        Unavailable: The folder cannot be written.
    """
    removed = Definitions(root).remove(name)
    if (root / removed.category / f"{name}.json").exists():
        remove(root, removed.category, name)
    return removed


def _is_from_mcp(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    origin = document.get(EXTENSION_KEY) if isinstance(document, dict) else None
    return isinstance(origin, dict) and origin.get("source") == "mcp"


def _api(tool: types.Tool, server: str) -> ImportedApi:
    if not tool.name.isprintable() or len(tool.name) > MAX_API_NAME_CHARS:
        raise _Refused(
            "name",
            f"it is not printable or longer than {MAX_API_NAME_CHARS} characters",
            "have the server rename it",
        )
    schema: dict[str, JsonValue] = tool.input_schema
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise _Refused(
            "inputSchema", "`properties` is no object or `required` no list", "mend the schema"
        )
    if len(properties) > MAX_PARAMETERS:
        raise _Refused(
            "inputSchema.properties",
            f"{len(properties)} parameters exceed the limit of {MAX_PARAMETERS}",
            "have the server take fewer",
        )
    _check_parameter_names(properties)
    return ImportedApi(
        name=tool.name,
        description=clean(tool.description or tool.title or ""),
        parameters=tuple(
            _parameter(name, value, schema, is_required=name in required)
            for name, value in properties.items()
        ),
        method="POST",
        template_response=_bounded(tool.output_schema),
        endpoint=McpEndpoint(server=server, tool=tool.name),
        side_effect=side_effect_of(tool.annotations),
    )


def side_effect_of(annotations: types.ToolAnnotations | None) -> SideEffect:
    """What the server claims about side effects.

    Source: MCP 2025-11-25, `ToolAnnotations`: a tool without hints changes its world, and not
    idempotently. Deviation: a destructive one counts as irreversible only if the server says so
    itself, because nearly all say nothing.
    """
    if annotations is None:
        return SideEffect.WRITE
    if annotations.read_only_hint:
        return SideEffect.READ
    if annotations.idempotent_hint:
        return SideEffect.IDEMPOTENT
    return SideEffect.IRREVERSIBLE if annotations.destructive_hint else SideEffect.WRITE


def _check_parameter_names(names: dict[str, JsonValue]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        where = f"inputSchema.properties.{name[:MAX_API_NAME_CHARS]!r}"
        standard = api_identifier(name)
        if not standard or not name.isprintable() or len(name) > MAX_API_NAME_CHARS:
            raise _Refused(
                where,
                "its name has no letter or digit, is too long or not printable",
                "have the server rename it",
            )
        if standard in seen:
            raise _Refused(
                where,
                f"it and {seen[standard]!r} have the same standard name {standard!r}",
                "have the server rename one",
            )
        seen[standard] = name


def _parameter(
    name: str, value: JsonValue, whole: dict[str, JsonValue], *, is_required: bool
) -> ImportedParameter:
    schema = _schema(f"inputSchema.properties.{name!r}", value, whole)
    description = schema.get("description", "")
    return ImportedParameter(
        name=name,
        schema=schema,
        is_required=is_required,
        description=description if isinstance(description, str) else "",
    )


def _schema(where: str, value: JsonValue, whole: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The schema of one parameter, complete in itself."""
    if isinstance(value, bool):
        value = {}
    if not isinstance(value, dict):
        raise _Refused(where, "it is no schema", "mend the schema")
    if '"$ref"' in json.dumps(value):
        value = value | {key: whole[key] for key in ("$defs", "definitions") if key in whole}
    length = len(json.dumps(value))
    if length > MAX_SCHEMA_BYTES:
        raise _Refused(
            where,
            f"its schema of {length} bytes exceeds the limit of {MAX_SCHEMA_BYTES}",
            "have the server simplify it",
        )
    _check_references(value, where)
    cleaned = _cleaned(value)
    return cleaned if isinstance(cleaned, dict) else {}


def _check_references(value: JsonValue, where: str) -> None:
    """Schemas are complete in themselves: nothing is ever looked up outside the document."""
    outside = outside_reference(value)
    if outside is not None:
        raise _Refused(where, f"{outside} leads outside", "inline it")


def _cleaned(value: JsonValue) -> JsonValue:
    """A schema whose texts are cleaned; the parser of messages bounded its depth."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    return value


def _bounded(schema: dict[str, JsonValue] | None) -> JsonValue:
    if schema is None or len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        return None
    return _cleaned(schema)


def clean(text: str) -> str:
    """Text without the characters that a reader does not see, cut to the limit.

    Control, format, surrogate, private and unassigned characters can hide instructions from the
    person who approves a tool, and not from the model.
    """
    shown = "".join(
        char for char in text if char in "\n\t" or unicodedata.category(char) not in _HIDDEN
    )
    if len(shown) <= MAX_DESCRIPTION_CHARS:
        return shown
    return shown[: MAX_DESCRIPTION_CHARS - len(_CUT)] + _CUT


def _description(listing: Listing) -> str:
    named = clean(f"{listing.server_name} {listing.server_version}".strip())[:200]
    return f"Tools of the MCP server {named}." if named else "Tools of an MCP server."


def _origin(definition: McpServerDefinition, listing: Listing) -> ToolExtension:
    reach = definition.reach
    origin = reach.url.split("?", 1)[0] if isinstance(reach, HttpTransport) else reach.command
    return ToolExtension(
        source="mcp", origin=origin, version=clean(listing.server_version)[:MAX_API_NAME_CHARS]
    )
