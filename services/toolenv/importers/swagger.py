"""Rewrites a Swagger 2.0 document in the words of OpenAPI 3.0, so that one importer reads both.

Only what the importer reads is carried over; the document has been validated before.
"""

from typing import Final

from pydantic import JsonValue

_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_SCHEMA_KEYS: Final = frozenset(
    {"type", "format", "items", "default", "enum", "pattern", "uniqueItems", "multipleOf"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "x-nullable"}
    | {"minLength", "maxLength", "minItems", "maxItems"}
)
_FORM: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_Object = dict[str, JsonValue]


def to_openapi3(document: _Object) -> _Object:
    """The same API as an OpenAPI 3.0 document.

    References into `definitions`, `parameters` and `responses` still resolve: those sections are
    kept where they were.
    """
    converted: _Object = {
        "openapi": "3.0.3",
        "info": document.get("info"),
        "definitions": document.get("definitions"),
        "parameters": document.get("parameters"),
        "responses": document.get("responses"),
        "externalDocs": document.get("externalDocs"),
        "servers": _servers(document),
        "components": {"securitySchemes": _security_schemes(document)},
        "paths": {},
    }
    if "security" in document:
        converted["security"] = document["security"]
    paths = document.get("paths")
    converted["paths"] = {
        path: _path_item(item, document)
        for path, item in (paths if isinstance(paths, dict) else {}).items()
    }
    return converted


def _servers(document: _Object) -> list[JsonValue]:
    base = document.get("basePath")
    path = base if isinstance(base, str) else ""
    host = document.get("host")
    if not isinstance(host, str) or not host:
        return [{"url": path or "/"}]
    schemes = _strings(document.get("schemes"))
    # Without schemes it is that of the document's own address, which is rarely known.
    scheme = "http" if schemes and "https" not in schemes else "https"
    return [{"url": f"{scheme}://{host}{path}"}]


def _security_schemes(document: _Object) -> _Object:
    schemes = document.get("securityDefinitions")
    found: _Object = {}
    for name, scheme in (schemes if isinstance(schemes, dict) else {}).items():
        kind = scheme.get("type") if isinstance(scheme, dict) else None
        if kind == "basic":
            found[name] = {"type": "http", "scheme": "basic"}
        elif kind == "oauth2":
            found[name] = {"type": "oauth2", "flows": {}}
        else:
            found[name] = scheme
    return found


def _path_item(item: JsonValue, document: _Object) -> JsonValue:
    if not isinstance(item, dict):
        return item
    shared = _resolved(item.get("parameters"), document)
    converted: _Object = {key: value for key, value in item.items() if key.startswith("x-")}
    for method in _METHODS:
        operation = item.get(method)
        if isinstance(operation, dict):
            converted[method] = _operation(operation, shared, document)
    return converted


def _operation(operation: _Object, shared: list[_Object], document: _Object) -> JsonValue:
    own = _resolved(operation.get("parameters"), document)
    named = {(p.get("name"), p.get("in")): p for p in [*shared, *own]}
    consumes = _strings(operation.get("consumes", document.get("consumes")))
    produces = _strings(operation.get("produces", document.get("produces")))
    converted: _Object = {
        key: value
        for key, value in operation.items()
        if key not in ("parameters", "responses", "consumes", "produces", "schemes")
    }
    converted["parameters"] = [
        _parameter(p) for p in named.values() if p.get("in") not in ("body", "formData")
    ]
    body = _request_body(list(named.values()), consumes)
    if body is not None:
        converted["requestBody"] = body
    responses = operation.get("responses")
    converted["responses"] = {
        status: _response(response, produces, document)
        for status, response in (responses if isinstance(responses, dict) else {}).items()
    }
    return converted


def _parameter(parameter: _Object) -> JsonValue:
    converted: _Object = {
        key: parameter[key]
        for key in ("$ref", "name", "in", "required", "description")
        if key in parameter
    }
    converted["schema"] = {key: parameter[key] for key in parameter if key in _SCHEMA_KEYS}
    style = parameter.get("collectionFormat", "csv")
    if parameter.get("type") == "array" and parameter.get("in") == "query":
        converted["explode"] = style == "multi"
        if style in ("ssv", "tsv", "pipes"):
            converted["style"] = "spaceDelimited"  # as little supported as the other two
    return converted


def _request_body(parameters: list[_Object], consumes: list[str]) -> JsonValue:
    body = next((p for p in parameters if p.get("in") == "body"), None)
    if body is not None:
        content: _Object = {kind: {"schema": body.get("schema")} for kind in consumes}
        return {
            "required": body.get("required", False),
            "description": body.get("description", ""),
            "content": content or {"application/json": {"schema": body.get("schema")}},
        }
    fields = [p for p in parameters if p.get("in") == "formData"]
    if not fields:
        return None
    properties: _Object = {
        str(p.get("name")): {
            **{key: p[key] for key in p if key in _SCHEMA_KEYS},
            "description": p.get("description", ""),
        }
        for p in fields
    }
    required: list[JsonValue] = [str(p.get("name")) for p in fields if p.get("required") is True]
    schema: JsonValue = {"type": "object", "properties": properties, "required": required}
    has_file = any(p.get("type") == "file" for p in fields)
    kinds = [kind for kind in consumes if kind in _FORM] or [_FORM[0]]
    if has_file:
        kinds = [_FORM[1]]
    return {"required": bool(required), "content": {kind: {"schema": schema} for kind in kinds}}


def _response(response: JsonValue, produces: list[str], document: _Object) -> JsonValue:
    found = _lookup(response, document)
    if not isinstance(found, dict):
        return response
    examples = found.get("examples")
    shown = examples if isinstance(examples, dict) else {}
    kinds = list(dict.fromkeys([*produces, *shown])) or ["application/json"]
    content: _Object = {}
    for kind in kinds:
        media: _Object = {"schema": found["schema"]} if "schema" in found else {}
        if kind in shown:
            media["example"] = shown[kind]
        content[kind] = media
    return {"description": found.get("description", ""), "content": content}


def _resolved(parameters: JsonValue, document: _Object) -> list[_Object]:
    entries = parameters if isinstance(parameters, list) else []
    looked_up = [_lookup(entry, document) for entry in entries]
    return [entry for entry in looked_up if isinstance(entry, dict)]


def _lookup(value: JsonValue, document: _Object) -> JsonValue:
    """What a reference to a shared parameter or response means; itself when it is none.

    One hop is enough: in Swagger 2.0 these sections hold no references. A reference that leads
    elsewhere stays, and the importer says what is wrong with it.
    """
    reference = value.get("$ref") if isinstance(value, dict) else None
    if not isinstance(reference, str):
        return value
    for section in ("parameters", "responses"):
        prefix = f"#/{section}/"
        holder = document.get(section)
        if reference.startswith(prefix) and isinstance(holder, dict):
            return holder.get(reference[len(prefix) :], value)
    return value


def _strings(value: JsonValue) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
