"""The catalogue in other people's formats: OpenAI tools, ToolBench documents, OpenAPI 3.1."""

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiParameter
from services.contracts.toolbench.functions import FINISH, openai_function, strict_function
from services.contracts.toolbench.names import distinct_names
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.extension import EXTENSION_KEY, extension_of

CALL_PATH: Final = "/v1/tools/{category}/{tool}/{api}"
"""Where the gateway takes a call of one API, with the arguments as a JSON object."""
_DEPRECATED: Final = "Deprecated. "
_OBSERVATION: Final[dict[str, JsonValue]] = {
    "type": "object",
    "description": "What the call gave; `status` says whether it succeeded.",
    "properties": {
        "content": {"type": "string", "description": "JSON text with `error` and `response`."},
        "status": {"type": "string"},
        "source": {"type": "string"},
    },
    "required": ["content", "status", "source"],
}
_Object = dict[str, JsonValue]


def openai_tools(documents: Iterable[ApiDocument]) -> list[_Object]:
    """OpenAI's `tools` list, one function per API, names as the planner shows them."""
    once = {document.ref: document for document in documents}
    names = distinct_names(once, taken=(FINISH,))
    return [
        openai_function(strict_function(document, name=names[ref]))
        for ref, document in once.items()
    ]


def toolbench_documents(entries: Iterable[CatalogueEntry]) -> dict[str, _Object]:
    """Tool documents by `<Category>/<tool>.json`; reading one gives the same APIs again."""
    tools: dict[str, list[CatalogueEntry]] = {}
    for entry in entries:
        document = entry.document
        tools.setdefault(f"{document.category_name}/{document.ref.tool}.json", []).append(entry)
    return {file: _tool(members) for file, members in tools.items()}


def openapi_document(documents: Sequence[ApiDocument], *, server_url: str) -> _Object:
    """An OpenAPI 3.1 document that calls the APIs through a Toolwright gateway.

    Args:
        documents: The APIs.
        server_url: Absolute URL of the gateway.
    """
    once = {document.ref: document for document in documents}
    names = distinct_names(once)
    paths: _Object = {}
    for ref, document in once.items():
        path = CALL_PATH.format(
            category=quote(ref.category, safe=""),
            tool=quote(ref.tool, safe=""),
            api=quote(ref.api, safe=""),
        )
        paths[path] = {"post": _operation(document, names[ref])}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Toolwright tools", "version": "1"},
        "servers": [{"url": server_url}],
        "paths": paths,
        "components": {"schemas": {"Observation": dict(_OBSERVATION)}},
    }


def _tool(entries: Sequence[CatalogueEntry]) -> _Object:
    first, hosts = entries[0].document, entries[0].hosts
    extension: _Object = {EXTENSION_KEY: {"hosts": list(hosts)}} if hosts else {}
    return {
        "tool_name": first.tool_name,
        "tool_description": first.tool_description,
        "title": first.tool_name,
        "standardized_name": first.ref.tool,
        "home_url": "",
        "host": "",
        **extension,
        "api_list": [_api(entry) for entry in entries],
    }


def _api(entry: CatalogueEntry) -> _Object:
    document = entry.document
    declared = document.required_parameters + document.optional_parameters
    extension = extension_of(
        entry.endpoint,
        side_effect=document.declared_effect,
        schemas={p.name: p.json_schema for p in declared if p.json_schema is not None},
        deprecated=_is_deprecated(document),
        inverse=document.inverse,
    ).to_json()
    api: _Object = {
        "name": document.api_name,
        "url": "",
        "description": document.description,
        "method": document.method,
        "required_parameters": [_parameter(p) for p in document.required_parameters],
        "optional_parameters": [_parameter(p) for p in document.optional_parameters],
        "template_response": document.template_response,
    }
    return {**api, EXTENSION_KEY: extension} if extension else api


def _parameter(parameter: ApiParameter) -> JsonValue:
    return {
        "name": parameter.name,
        "type": parameter.type,
        "description": parameter.description,
        "default": parameter.default,
    }


def _operation(document: ApiDocument, name: str) -> _Object:
    schema = strict_function(document, name=name)
    operation: _Object = {
        "operationId": name,
        "summary": f"{document.api_name} ({document.tool_name})",
        "description": schema.description,
        "tags": [document.ref.category],
        "x-side-effect": document.side_effect.value,
        "requestBody": {
            "required": bool(document.required_parameters),
            "content": {"application/json": {"schema": schema.parameters}},
        },
        "responses": {
            "200": {
                "description": "The observation, also when the tool failed.",
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Observation"}}
                },
            }
        },
    }
    if _is_deprecated(document):
        operation["deprecated"] = True
    return operation


def _is_deprecated(document: ApiDocument) -> bool:
    return document.description.startswith(_DEPRECATED)
