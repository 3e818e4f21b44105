"""Describes request bodies that routes parse themselves, whatever their content type."""

from typing import Any

from pydantic import TypeAdapter

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "One JSON object per line", "content": {"application/x-ndjson": {}}}
}
"""What `responses` of a route that streams takes."""
_DEFINITIONS = "#/$defs/"


def json_body(model: Any) -> dict[str, Any]:
    """What `openapi_extra` of a route takes; the schema stands on its own, without references.

    Only for models that do not contain themselves.
    """
    schema = TypeAdapter(model).json_schema()
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inline(schema, definitions)}}
    return {"requestBody": {"required": True, "content": content}}


def _inline(part: Any, definitions: dict[str, Any]) -> Any:
    """The schema with every reference replaced by what it names.

    pydantic's references point below the schema's own root, which is not the document's.
    """
    if isinstance(part, list):
        return [_inline(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    named = part.get("$ref", "").removeprefix(_DEFINITIONS)
    rest = {key: _inline(value, definitions) for key, value in part.items() if key != "$ref"}
    return {**_inline(definitions[named], definitions), **rest} if named else rest
