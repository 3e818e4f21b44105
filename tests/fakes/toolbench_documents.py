"""Reads a folder of ToolBench tool documents without any service, for tests of one service."""

import json
from pathlib import Path

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category


def load_documents(tools: Path) -> tuple[ApiDocument, ...]:
    """Every API of `tools/<Category>/<tool>.json`, in the order of the paths."""
    return tuple(
        _document(path.parent.name, tool, api)
        for path in sorted(tools.glob("*/*.json"))
        for tool in [json.loads(path.read_text(encoding="utf-8"))]
        for api in tool["api_list"]
    )


def _document(category: str, tool: dict, api: dict) -> ApiDocument:
    return ApiDocument.model_validate(
        {
            **api,
            "ref": ApiRef(
                category=standardize_category(category),
                tool=standardize(tool["tool_name"]),
                api=api_identifier(api["name"]),
            ),
            "category_name": category,
            "tool_name": tool["tool_name"],
            "api_name": api["name"],
            "tool_description": tool["tool_description"] or "",
            "description": api["description"] or "",
        }
    )
