"""Imports a tool that is in ToolBench's layout already: its document, and its code if any."""

import json
from typing import Final

from pydantic import JsonValue

from services.toolenv.catalog import MAX_CODE_BYTES, parse_requirements
from services.toolenv.documents import Refusal, parse_document
from services.toolenv.extension import EXTENSION_KEY
from services.toolenv.importers.imported import (
    ImportedTool,
    ToolRefused,
    category_name,
    clean,
    tool_name,
)
from services.toolenv.importers.structured import load_object, refusal

DEFAULT_CATEGORY: Final = "Customized"
_TOOL_KEYS: Final = (
    *("product_id", "tool_name", "tool_description", "title", "standardized_name", "home_url"),
    *("pricing", "host", "score", EXTENSION_KEY),
)
_API_KEYS: Final = (
    *("name", "url", "description", "method", "required_parameters", "optional_parameters"),
    *("template_response", "schema", "statuscode", EXTENSION_KEY),
)
"""What is kept. Crawled documents also hold code snippets and test calls, with keys in them."""


def import_toolbench(
    content: bytes,
    *,
    file: str,
    category: str | None = None,
    name: str | None = None,
    code: bytes | None = None,
    requirements: bytes | None = None,
) -> ImportedTool:
    """Read a tool document.

    Args:
        content: The document, JSON.
        file: Its name in refusals; `<tool>.json` names the tool unless `name` does.
        category: Category of the tool, `Customized` by default.
        name: Name of the tool, that of the file by default.
        code: Content of `api.py`.
        requirements: Content of `requirements.txt`.

    Raises:
        ToolRefused: The document or the code is unusable; every reason is in it.
        InvalidArgument: `category` or `name` cannot be a name.
    """
    document = load_object(content, file=file)
    stem = file.replace("\\", "/").rpartition("/")[2].split(".", 1)[0]
    tool = tool_name(name or stem or str(document.get("tool_name", "")))
    folder = category_name(category or DEFAULT_CATEGORY)
    parsed = parse_document(
        content, file=file, category_name=folder, ref_category=folder, tool=tool
    )
    if not parsed.apis:
        raise ToolRefused(parsed.refusals)
    apis = _usable(document, folder, tool)
    if name is not None:
        document = {**document, "tool_name": clean(name, 200)}
    return ImportedTool(
        category=folder,
        tool=tool,
        document={
            **{key: document[key] for key in _TOOL_KEYS if key in document},
            "standardized_name": tool,
            "api_list": apis,
        },
        code=_code(code, file),
        requirements=_requirements(requirements, file),
        refusals=parsed.refusals,
    )


def _usable(document: dict[str, JsonValue], folder: str, tool: str) -> list[JsonValue]:
    """The entries that can be read, each on its own; a URL that makes no sense is left out."""
    usable: list[JsonValue] = []
    seen: set[str] = set()
    entries = document.get("api_list")
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        alone = json.dumps({**document, "api_list": [entry]}).encode()
        parsed = parse_document(
            alone, file="", category_name=folder, ref_category=folder, tool=tool
        )
        if not parsed.apis or parsed.apis[0].ref.api in seen:
            continue
        seen.add(parsed.apis[0].ref.api)
        kept: dict[str, JsonValue] = {key: entry[key] for key in _API_KEYS if key in entry}
        if parsed.refusals:
            kept["url"] = ""
        usable.append(kept)
    return usable


def _code(content: bytes | None, file: str) -> str | None:
    if content is None:
        return None
    if len(content) > MAX_CODE_BYTES:
        raise refusal(file, f"api.py exceeds the limit of {MAX_CODE_BYTES} bytes", "split the tool")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise refusal(file, f"byte {exc.start} of api.py is not UTF-8", "save it as UTF-8") from exc


def _requirements(content: bytes | None, file: str) -> str | None:
    if content is None:
        return None
    try:
        lines = parse_requirements(content)
    except ValueError as exc:
        fix = "write lines of the form name==version"
        raise ToolRefused([Refusal(file, "requirements.txt", str(exc), fix)]) from exc
    return "".join(f"{line}\n" for line in lines)
