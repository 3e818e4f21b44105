"""Turns the result of an MCP tool into the JSON value that a model reads.

Binary content is described by its size and media type; its bytes would only fill the context.
"""

import json

import mcp_types as types
from pydantic import JsonValue


def value_of(result: types.CallToolResult) -> JsonValue:
    """The structured content where there is some, else the content blocks.

    A single text is the value itself, parsed when it is a JSON object or array.
    """
    others = [_block(block) for block in result.content if not isinstance(block, types.TextContent)]
    if result.structured_content is not None:
        structured: JsonValue = result.structured_content
        return {"structured": structured, "content": others} if others else structured
    if len(result.content) == 1 and isinstance(result.content[0], types.TextContent):
        return _parsed(result.content[0].text)
    return [_block(block) for block in result.content]


def error_of(result: types.CallToolResult) -> str:
    """The words of a result that is an error."""
    texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
    return "\n".join(texts) or "the tool failed without saying why"


def _parsed(text: str) -> JsonValue:
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        value: JsonValue = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text
    return value


def _not_json(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is not a JSON value")


def _block(block: types.ContentBlock) -> JsonValue:
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, types.ImageContent | types.AudioContent):
        return {
            "type": block.type,
            "media_type": block.mime_type,
            "bytes": _decoded_bytes(block.data),
        }
    if isinstance(block, types.ResourceLink):
        return {
            "type": "resource_link",
            "uri": str(block.uri),
            "name": block.name,
            "media_type": block.mime_type,
        }
    resource = block.resource
    described: dict[str, JsonValue] = {
        "type": "resource",
        "uri": str(resource.uri),
        "media_type": resource.mime_type,
    }
    if isinstance(resource, types.TextResourceContents):
        return described | {"text": resource.text}
    return described | {"bytes": _decoded_bytes(resource.blob)}


def _decoded_bytes(base64_text: str) -> int:
    """Bytes that a base64 text stands for, without decoding it."""
    return len(base64_text.rstrip("=")) * 3 // 4
