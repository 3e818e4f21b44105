"""Exports: valid in the other format, and the same APIs again when read back."""

import json
import re
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.toolenv.catalog import CatalogueEntry, load_catalogue
from services.toolenv.endpoints import McpEndpoint
from services.toolenv.exports import openai_tools, openapi_document, toolbench_documents
from services.toolenv.extension import extension_of
from services.toolenv.importers.install import install
from services.toolenv.importers.openapi import import_openapi
from services.toolenv.importers.toolbench import import_toolbench
from services.toolenv.validate import validate_tool

REPOSITORY = Path(__file__).parents[3]
FIXTURES = REPOSITORY / "tests" / "data" / "openapi"


@pytest.fixture
def entries(tmp_path: Path) -> list[CatalogueEntry]:
    for name in ("shop_30.yaml", "shop_20.json"):
        tool = import_openapi((FIXTURES / name).read_bytes(), file=name)
        install(tmp_path / "from", tool, check=validate_tool)
    return load_catalogue([tmp_path / "from", REPOSITORY / "data" / "toolenv" / "tools"]).entries()


def test_a_toolbench_export_is_read_back_as_the_same_apis(
    entries: list[CatalogueEntry], tmp_path: Path
) -> None:
    for file, document in toolbench_documents(entries).items():
        category, _, name = file.partition("/")
        content = json.dumps(document).encode()
        tool = import_toolbench(content, file=name, category=category)
        install(tmp_path / "to", tool, check=lambda _: [])
    again = load_catalogue([tmp_path / "to"])
    assert again.refusals == ()
    assert [(e.document, e.endpoint) for e in again.entries()] == [
        (e.document, e.endpoint) for e in entries
    ]


def test_an_mcp_address_is_written_and_read_back() -> None:
    endpoint = McpEndpoint(server="files", tool="read/file")
    extension = extension_of(endpoint)
    assert type(extension).model_validate(extension.to_json()).endpoint() == endpoint


def test_openai_tools_have_valid_distinct_names_and_schemas(
    entries: list[CatalogueEntry],
) -> None:
    tools = openai_tools(entry.document for entry in entries)
    names = [tool["function"]["name"] for tool in tools]
    assert len(set(names)) == len(names) == len(entries)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
    (orders,) = [t for t in tools if t["function"]["name"] == "place_order_for_pet_shop"]
    assert len(orders["function"]["parameters"]["properties"]["body"]["oneOf"]) == 2


def test_an_openapi_export_is_valid_and_can_be_imported(
    entries: list[CatalogueEntry], tmp_path: Path
) -> None:
    documents = [entry.document for entry in entries]
    exported = openapi_document(documents, server_url="https://gateway.example")
    assert list(OpenAPIV31SpecValidator(exported).iter_errors()) == []
    tool = import_openapi(json.dumps(exported).encode(), file="export.json")
    install(tmp_path / "gateway", tool, check=validate_tool)
    assert tool.refusals == ()
    assert len(load_catalogue([tmp_path / "gateway"])) == len(documents)
