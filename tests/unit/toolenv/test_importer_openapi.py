"""OpenAPI 3.0, 3.1 and Swagger 2.0 documents become tools; hostile ones become refusals."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.apis import SideEffect
from services.contracts.errors import InvalidArgument
from services.toolenv.documents import ToolDocument, parse_document
from services.toolenv.endpoints import (
    AuthPlacement,
    EndpointParameter,
    HttpEndpoint,
)
from services.toolenv.importers.imported import ImportedTool, ToolRefused
from services.toolenv.importers.openapi import import_openapi

FIXTURES = Path(__file__).parents[2] / "data" / "openapi"
OK = {"responses": {"200": {"description": "ok"}}}


def parsed(tool: ImportedTool) -> ToolDocument:
    return parse_document(
        json.dumps(tool.document).encode(),
        file="t.json",
        category_name=tool.category,
        ref_category=tool.category,
        tool=tool.tool,
    )


class Read:
    """A fixture as imported and read back, by the APIs' standard names."""

    def __init__(self, name: str, **options: Any) -> None:
        self.tool = import_openapi((FIXTURES / name).read_bytes(), file=name, **options)
        document = parsed(self.tool)
        assert document.refusals == ()
        self.apis = {api.ref.api: api for api in document.apis}
        self.endpoints = {ref.api: document.endpoints[ref] for ref in document.endpoints}
        self.refusals = [str(refusal) for refusal in self.tool.refusals]

    def endpoint(self, api: str) -> HttpEndpoint:
        endpoint = self.endpoints[api]
        assert isinstance(endpoint, HttpEndpoint)
        return endpoint


def spec(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "openapi": "3.0.3",
        "info": {"title": "T", "version": "1"},
        "servers": [{"url": "https://api.example"}],
        "paths": {"/a": {"get": {"operationId": "a", **OK}}},
    }
    return {**document, **changes}


def imported(document: dict[str, Any]) -> ImportedTool:
    return import_openapi(json.dumps(document).encode(), file="spec.json")


def reasons(document: dict[str, Any]) -> str:
    with pytest.raises(ToolRefused) as refused:
        imported(document)
    return str(refused.value)


def test_every_operation_that_can_be_called_becomes_an_api() -> None:
    read = Read("shop_30.yaml")
    assert sorted(read.apis) == [
        "add_animal",
        "get_animals_id",
        "list_animals",
        "log_in",
        "place_order",
        "remove_animal",
        "replace_animal",
        "search_orders",
    ]
    assert read.tool.document["tool_description"] == "Sells animals and keeps track of them."


def test_what_cannot_be_called_is_refused_with_its_place() -> None:
    refusals = "\n".join(Read("shop_30.yaml").refusals)
    assert "#/paths/~1animals~1{id}~1photo/post/requestBody: it uploads files" in refusals
    assert "#/paths/~1subscribe/post/callbacks" in refusals
    assert "#/paths/~1report/put/requestBody" in refusals
    assert "style 'deepObject' is not supported" in refusals


def test_parameters_go_where_the_document_places_them() -> None:
    endpoint = Read("shop_30.yaml").endpoint("list_animals")
    assert endpoint.url == "https://eu.shop.example/v1/animals"
    assert endpoint.parameters == (
        EndpointParameter("X-Trace", "header", explode=False),
        EndpointParameter("kind", "query"),
        EndpointParameter("tags", "query", explode=False),
        EndpointParameter("limit", "query"),
    )


def test_the_properties_of_a_body_become_parameters_with_names_of_their_own() -> None:
    read = Read("shop_30.yaml")
    places = {(p.argument or p.name, p.place) for p in read.endpoint("replace_animal").parameters}
    assert {("id", "path"), ("body id", "body"), ("name", "body")} <= places
    assert ("created", "body") not in places  # it is read-only
    assert [p.name for p in read.apis["replace_animal"].required_parameters] == ["id", "name"]


def test_a_body_of_alternatives_stays_whole() -> None:
    read = Read("shop_30.yaml")
    assert read.endpoint("place_order").parameters == (
        EndpointParameter("body", "body", is_whole_body=True),
    )
    (body,) = read.apis["place_order"].required_parameters
    assert body.json_schema is not None and len(body.json_schema["oneOf"]) == 2


def test_schemas_are_kept_in_the_words_of_json_schema() -> None:
    read = Read("shop_30.yaml")
    schemas = {p.name: p.json_schema for p in read.apis["add_animal"].optional_parameters}
    assert schemas["kind"] == {"type": "string", "enum": ["cat", "dog"]}
    assert schemas["weight"] == {"type": ["number", "null"], "exclusiveMinimum": 0}
    assert schemas["parent"] == {
        "type": "object",
        "description": "Another Animal, which may hold more of its kind.",
    }


@pytest.mark.parametrize(
    ("api", "auth", "is_optional"),
    [
        ("list_animals", (AuthPlacement("pet_shop.key", "header", "X-Shop-Key"),), False),
        ("get_animals_id", (), False),
        ("replace_animal", (AuthPlacement("pet_shop.token", "bearer"),), True),
        ("remove_animal", (AuthPlacement("pet_shop.login", "basic"),), False),
        ("search_orders", (AuthPlacement("pet_shop.session", "cookie", "sid"),), False),
        ("log_in", (), False),
    ],
)
def test_security_schemes_become_placements(
    api: str, auth: tuple[AuthPlacement, ...], is_optional: bool
) -> None:
    endpoint = Read("shop_30.yaml").endpoint(api)
    assert endpoint.auth == auth
    assert endpoint.is_auth_optional is is_optional


def test_side_effects_follow_the_method_unless_the_document_says_more() -> None:
    apis = Read("shop_30.yaml").apis
    assert apis["add_animal"].side_effect is SideEffect.WRITE
    assert apis["remove_animal"].side_effect is SideEffect.IDEMPOTENT
    assert apis["search_orders"].declared_effect is SideEffect.READ
    assert apis["remove_animal"].description.startswith("Deprecated. ")


def test_answers_are_shown_in_toolbenchs_form() -> None:
    apis = Read("shop_30.yaml").apis
    (animal,) = apis["list_animals"].template_response
    assert animal["name"] == "str" and animal["weight"] == "float"
    assert apis["get_animals_id"].template_response == {"id": 7}


def test_openapi_31_is_read() -> None:
    read = Read("shop_31.json", document_url="https://things.example/docs/spec.json?token=secret")
    endpoint = read.endpoint("things_update")
    assert endpoint.url == "https://things.example/api/things/{thing-id}"
    assert endpoint.headers == (("Content-Type", "application/merge-patch+json"),)
    assert endpoint.auth == (AuthPlacement("shop_of_things.oauth", "bearer"),)
    assert "secret" not in json.dumps(read.tool.document)
    assert any("mutualTLS" in refusal for refusal in read.refusals)
    assert any("#/webhooks" in refusal for refusal in read.refusals)


def test_swagger_20_is_read() -> None:
    read = Read("shop_20.json")
    find = read.endpoint("find_pets")
    assert find.url == "https://old.example/v2/pets"
    assert find.auth == (AuthPlacement("old_shop.key", "query", "api_key"),)
    assert [(p.name, p.explode) for p in find.parameters] == [
        ("limit", True),
        ("status", True),
        ("colours", False),
    ]
    assert [p.name for p in read.endpoint("add_pet").parameters] == ["name", "tags"]
    assert read.endpoint("rename_pet").parameters[1] == EndpointParameter("name", "form")
    assert len(read.refusals) == 1 and "uploads files" in read.refusals[0]


def test_a_relative_server_needs_a_base() -> None:
    assert "with --server-url" in reasons(spec(servers=[{"url": "/v1"}]))
    content = json.dumps(spec(servers=[{"url": "/v1"}])).encode()
    tool = import_openapi(content, file="s", server_url="https://mine.example/v1/")
    (endpoint,) = parsed(tool).endpoints.values()
    assert isinstance(endpoint, HttpEndpoint) and endpoint.url == "https://mine.example/v1/a"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"openapi": "4.0.0"}, "version '4.0.0' is not supported"),
        ({"openapi": None}, "is not supported"),
        ({"info": {}}, "#/info"),
        ({"servers": [{"url": "http://user:pw@api.example"}]}, "user name or password"),
        ({"servers": [{"url": "https://{host}/x"}]}, "no fixed host"),
        ({"servers": [{"url": "file:///etc"}]}, "not an absolute http"),
        ({"servers": [{"url": "https://api.example/?key=1"}]}, "query or fragment"),
        (
            {"servers": [{"url": "https://{h}", "variables": {"h": {"default": "a:b@e.x"}}}]},
            "user name or password",
        ),
        ({"paths": {}}, "no operation can be imported"),
        ({"paths": {"/a/../b": {"get": OK}}}, "the path is malformed"),
        ({"paths": {"/a?x=1": {"get": OK}}}, "the path is malformed"),
        ({"paths": {"/a": {"trace": OK}}}, "TRACE is never sent"),
        ({"paths": {"/a/{id}": {"get": OK}}}, "path parameter 'id' is only in the URL"),
        ({"security": [{"nowhere": []}]}, "it is no object"),
    ],
)
def test_an_unusable_document_is_refused_with_place_and_fix(
    changes: dict[str, Any], named: str
) -> None:
    text = reasons(spec(**changes))
    assert named in text
    assert text.startswith("spec.json: ")


def with_parameter(schema: Any, **more: Any) -> dict[str, Any]:
    parameter = {"name": "q", "in": "query", "required": True, "schema": schema, **more}
    return spec(paths={"/a": {"get": {"parameters": [parameter], **OK}}})


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("http://169.254.169.254/latest", "which is never fetched"),
        ("file:///etc/passwd", "which is never fetched"),
        ("../other.yaml#/Thing", "which is never fetched"),
        ("#/components/schemas/Missing", "leads nowhere"),
        ("#/paths/~1a/get/parameters/0/schema", "leads in a circle"),
    ],
)
def test_references_stay_within_the_document(reference: str, named: str) -> None:
    assert named in reasons(with_parameter({"$ref": reference}))


def test_a_reference_that_nothing_uses_harms_nobody() -> None:
    schemas = {"Far": {"$ref": "https://evil.example/x"}}
    assert imported(spec(components={"schemas": schemas})).document["api_list"]


def test_references_that_multiply_are_cut_in_time() -> None:
    schemas: dict[str, Any] = {"S0": {"type": "string"}}
    for level in range(1, 40):
        below = {"$ref": f"#/components/schemas/S{level - 1}"}
        schemas[f"S{level}"] = {"type": "object", "properties": {"a": below, "b": below}}
    document = with_parameter({"type": "array", "items": {"$ref": "#/components/schemas/S39"}})
    began = time.monotonic()
    tool = imported({**document, "components": {"schemas": schemas}})
    assert time.monotonic() - began < 10
    assert "Left out here" in json.dumps(tool.document)
    assert len(json.dumps(tool.document)) < 500_000


def test_one_bad_operation_does_not_stop_the_others() -> None:
    paths = {
        "/a": {"get": {"operationId": "a", **OK}},
        "/b": {"get": {"operationId": "b", "parameters": [{"name": "x"}], **OK}},
    }
    tool = imported(spec(paths=paths))
    assert [api.api_name for api in parsed(tool).apis] == ["a"]
    assert "#/paths/~1b/get" in str(tool.refusals[0])


def test_operations_of_one_name_are_refused_after_the_first() -> None:
    paths = {f"/{n}": {"get": {"operationId": "same", **OK}} for n in ("a", "b")}
    tool = imported(spec(paths=paths))
    assert len(parsed(tool).apis) == 1
    assert "its standard name 'same' is that of 'same'" in str(tool.refusals[0])


@pytest.mark.parametrize(
    "title", ["../../etc/passwd", "__proto__", "a\x00b\x1b[31m", "x" * 150, "CON", "tool/../x"]
)
def test_no_title_leads_out_of_the_tools_root(title: str) -> None:
    tool = imported(spec(info={"title": title, "version": "1"}))
    assert tool.tool.replace("_", "a").isalnum()
    assert "\\u0000" not in json.dumps(tool.document)


def test_hostile_names_give_apis_that_can_be_read_back() -> None:
    names = ["__proto__", "constructor", "\u202eid", "é", "名前", "a b", "in", "a^b", "$", "id"]
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    operation = {"operationId": "__proto__", "parameters": parameters, **OK}
    document = parsed(imported(spec(paths={"/a": {"get": operation}})))
    assert document.refusals == ()
    (endpoint,) = document.endpoints.values()
    assert isinstance(endpoint, HttpEndpoint)
    assert {p.name for p in endpoint.parameters} == set(names)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=15,
)
KEYS = st.sampled_from(
    ["parameters", "requestBody", "responses", "security", "servers", "callbacks", "operationId"]
)


@given(st.dictionaries(KEYS, JSON_VALUES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_operation_is_imported_or_refused(operation: dict[str, Any]) -> None:
    paths = {"/a": {"get": {**OK, **operation}}, "/b": {"get": OK}}
    assert parsed(imported(spec(paths=paths))).refusals == ()


@given(st.dictionaries(st.sampled_from(["info", "paths", "servers", "components"]), JSON_VALUES))
@settings(max_examples=150, deadline=None)
def test_any_document_is_imported_or_refused(changes: dict[str, Any]) -> None:
    try:
        tool = imported(spec(**changes))
    except InvalidArgument as exc:
        assert exc.detail
    else:
        assert parsed(tool).refusals == ()


def test_server_variables_do_not_multiply() -> None:
    names = "abcdefghijklmnop"
    variables = {
        name: {"default": f"{{{following}}}" * 30}
        for name, following in zip(names, names[1:], strict=False)
    }
    server = {"url": "https://api.example/{a}", "variables": variables}
    assert "path parameter 'b'" in reasons(spec(servers=[server]))


def test_a_server_variable_is_replaced_by_its_default_once() -> None:
    variables = {"region": {"default": "eu"}, "version": {"default": "2"}}
    server = {"url": "https://{region}.api.example/v{version}", "variables": variables}
    (endpoint,) = parsed(imported(spec(servers=[server]))).endpoints.values()
    assert isinstance(endpoint, HttpEndpoint)
    assert endpoint.url == "https://eu.api.example/v2/a"
