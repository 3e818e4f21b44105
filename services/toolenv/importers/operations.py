"""Reads one operation of an OpenAPI 3 document as an API with its HTTP request."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, cast
from urllib.parse import quote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import JsonValue

from services.contracts.apis import SideEffect
from services.contracts.toolbench.names import api_identifier
from services.toolenv.endpoints import (
    AuthPlacement,
    EndpointParameter,
    HttpEndpoint,
    ParameterPlace,
)
from services.toolenv.importers.imported import (
    ImportedApi,
    ImportedParameter,
    toolbench_type,
    words_apart,
)
from services.toolenv.importers.schemas import References, Unsupported, merged_object, mirror
from services.toolenv.importers.security import SecurityReader

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
MAX_PARAMETERS: Final = 128
_SET_BY_US: Final = frozenset({"accept", "content-type", "authorization"})
"""Header parameters that an OpenAPI document may name but that mean nothing there (4.8.12)."""
_FORM: Final = "application/x-www-form-urlencoded"
_PLACES: Final[dict[str, ParameterPlace]] = {
    "path": "path",
    "query": "query",
    "header": "header",
    "cookie": "cookie",
}
_MAX_TEMPLATE_CHARS = 8192
_Object = dict[str, JsonValue]


class OperationRead(NamedTuple):
    """An operation, and which of its optional parts were left out."""

    api: ImportedApi
    left_out: tuple[Unsupported, ...]


@dataclass(slots=True)
class _Arguments:
    """The parameters of one operation: what a caller gives, and where each goes."""

    shown: list[ImportedParameter] = field(default_factory=list)
    placed: list[EndpointParameter] = field(default_factory=list)
    left_out: list[Unsupported] = field(default_factory=list)
    content_type: str = ""
    """Of the body, where it is not what a JSON body has anyway."""

    def add(
        self,
        name: str,
        place: ParameterPlace,
        schema: _Object,
        *,
        is_required: bool,
        description: str,
        explode: bool = True,
        is_whole_body: bool = False,
        where: str,
    ) -> None:
        """Take one parameter under a name that no other has in standard form."""
        problem = _schema_problem(json.dumps(schema))
        if problem:
            raise Unsupported(where, f"its schema is wrong: {problem}", "correct it")
        if len(self.shown) >= MAX_PARAMETERS:
            reason = f"more than {MAX_PARAMETERS} parameters"
            raise Unsupported(where, reason, "leave some out")
        argument = self._free_name(name, place)
        self.shown.append(ImportedParameter(argument, schema, is_required, description))
        self.placed.append(
            EndpointParameter(
                name=name,
                place=place,
                is_whole_body=is_whole_body,
                explode=explode,
                argument="" if argument == name else argument,
            )
        )

    def _free_name(self, name: str, place: str) -> str:
        taken = {api_identifier(parameter.name) for parameter in self.shown}
        for candidate in (name, f"{place} {name}", f"{place} parameter {len(self.shown) + 1}"):
            standard = api_identifier(candidate)
            if standard and standard not in taken and candidate.isprintable():
                return candidate
        return f"{place} parameter {len(self.shown) + 1}"


class OperationReader:
    """Reads the operations of one document."""

    def __init__(
        self,
        *,
        references: References,
        document: _Object,
        servers: Callable[[JsonValue, str], str],
        credential_prefix: str,
        default_auth: tuple[AuthPlacement, ...] = (),
    ) -> None:
        """Bind the document.

        Args:
            references: Resolves its references.
            document: OpenAPI 3.0 or 3.1, valid in form.
            servers: The absolute URL for a list of servers at a pointer; raises `Unsupported`.
            credential_prefix: Start of the names of credentials, the tool's standard name.
            default_auth: Used where the document does not speak of security at all.
        """
        self._references = references
        self._document = document
        self._servers = servers
        self._security = SecurityReader(
            references=references,
            document=document,
            credential_prefix=credential_prefix,
            default_auth=default_auth,
        )

    def methods_of(self, path: str, where: str) -> list[str]:
        """The methods of a path, in the order of the document.

        Raises:
            Unsupported: The path is malformed.
        """
        if not path.startswith("/") or any(sign in path for sign in "?#\\") or ".." in path:
            raise Unsupported(where, "the path is malformed", "write it as /a/{b}")
        return [method for method in self._path_item(path, where) if method in METHODS]

    def read(self, path: str, method: str, where: str) -> OperationRead:
        """The API that an operation becomes.

        Raises:
            Unsupported: It cannot be called by us, and why.
        """
        item = self._path_item(path, where)
        operation = self._references.object(item[method], where)
        if operation.get("callbacks"):
            reason = "it calls back, and calls from outside are not received"
            raise Unsupported(f"{where}/callbacks", reason, "leave it out, or poll")
        if method == "trace":
            raise Unsupported(where, "TRACE is never sent: it echoes secrets", "leave it out")
        arguments = _Arguments()
        self._parameters(item, operation, arguments, where)
        self._body(operation, arguments, where)
        auth, is_optional = self._security.of(operation, where)
        servers = operation.get("servers", item.get("servers", self._document.get("servers")))
        endpoint = HttpEndpoint(
            method=method.upper(),
            url=self._servers(servers, where) + quote(path, safe="/{}:@!$&'()*+,;=-._~%"),
            parameters=tuple(arguments.placed),
            headers=(("Content-Type", arguments.content_type),) if arguments.content_type else (),
            auth=auth,
            is_auth_optional=is_optional,
        )
        api = ImportedApi(
            name=_name(operation, path, method),
            description=_description(operation, item) or f"{method.upper()} {path}",
            parameters=tuple(arguments.shown),
            method=method.upper(),
            template_response=self._response(operation, where),
            endpoint=endpoint,
            side_effect=_side_effect(operation),
            is_deprecated=operation.get("deprecated") is True,
        )
        return OperationRead(api, tuple(arguments.left_out))

    def _path_item(self, path: str, where: str) -> _Object:
        paths = self._document.get("paths")
        return self._references.object(paths.get(path) if isinstance(paths, dict) else None, where)

    def _parameters(
        self, item: _Object, operation: _Object, arguments: _Arguments, where: str
    ) -> None:
        found: dict[tuple[str, str], tuple[_Object, str]] = {}
        for holder, base in ((item, where.rpartition("/")[0]), (operation, where)):
            entries = holder.get("parameters")
            for index, entry in enumerate(entries if isinstance(entries, list) else []):
                at = f"{base}/parameters/{index}"
                parameter = self._references.object(entry, at)
                key = (str(parameter.get("name", "")), str(parameter.get("in", "")))
                found[key] = (parameter, at)
        for (name, kind), (parameter, at) in found.items():
            if kind == "header" and name.lower() in _SET_BY_US:
                continue
            try:
                self._parameter(name, kind, parameter, arguments, at)
            except Unsupported as exc:
                if parameter.get("required") is True or kind == "path":
                    raise
                arguments.left_out.append(exc)

    def _parameter(
        self, name: str, kind: str, parameter: _Object, arguments: _Arguments, where: str
    ) -> None:
        place = _PLACES.get(kind)
        if place is None or not name:
            raise Unsupported(where, f"place {kind[:40]!r} is unknown", "use path or query")
        if parameter.get("content") is not None:
            raise Unsupported(where, "its value is a document in itself", "use a plain schema")
        style = parameter.get("style", "form" if place in ("query", "cookie") else "simple")
        if style not in ("form", "simple"):
            raise Unsupported(where, f"style {str(style)[:40]!r} is not supported", "use `form`")
        schema = self._references.schema(
            parameter.get("schema", {}), f"{where}/schema", request=True
        )
        if toolbench_type(schema) == "OBJECT" or "properties" in schema:
            raise Unsupported(where, "it is an object outside the body", "use plain values")
        if "example" in parameter and "examples" not in schema:
            schema["examples"] = [parameter["example"]]
        arguments.add(
            name,
            place,
            schema,
            is_required=parameter.get("required") is True or place == "path",
            description=_text(parameter, "description") or _text(schema, "description"),
            explode=parameter.get("explode", place in ("query", "cookie")) is True,
            where=where,
        )

    def _body(self, operation: _Object, arguments: _Arguments, where: str) -> None:
        if operation.get("requestBody") is None:
            return
        where = f"{where}/requestBody"
        body = self._references.object(operation["requestBody"], where)
        is_required = body.get("required") is True
        content = body.get("content")
        kinds = list(content) if isinstance(content, dict) else []
        kind = next(filter(_is_json, kinds), None) or next(filter(_is_form, kinds), None)
        if kind is None or not isinstance(content, dict):
            problem = Unsupported(where, *_unsupported_media(kinds))
            if is_required:
                raise problem
            arguments.left_out.append(problem)
            return
        where = f"{where}/content/{kind.replace('~', '~0').replace('/', '~1')}/schema"
        media = content[kind]
        value = media.get("schema", {}) if isinstance(media, dict) else {}
        schema = self._references.schema(value, where, request=True)
        place: Literal["body", "form"] = "body" if _is_json(kind) else "form"
        if kind.endswith("+json"):
            arguments.content_type = kind
        whole = merged_object(schema)
        if whole is not None:
            self._fields(whole, place, arguments, where, is_required=is_required)
        elif place == "form":
            raise Unsupported(where, "the form's fields are not listed", "use an object schema")
        else:
            text = _text(body, "description") or _text(schema, "description")
            arguments.add(
                "body",
                place,
                schema,
                is_required=is_required,
                description=text or "The whole JSON body.",
                is_whole_body=True,
                where=where,
            )

    def _fields(
        self,
        whole: _Object,
        place: ParameterPlace,
        arguments: _Arguments,
        where: str,
        *,
        is_required: bool,
    ) -> None:
        # `merged_object` made these two, so they are what they are called.
        properties = cast(dict[str, JsonValue], whole["properties"])
        required = cast(list[JsonValue], whole["required"])
        for name, schema in properties.items():
            fields = schema if isinstance(schema, dict) else {}
            arguments.add(
                name,
                place,
                fields,
                is_required=is_required and name in required,
                description=_text(fields, "description"),
                where=f"{where}/properties/{name}",
            )

    def _response(self, operation: _Object, where: str) -> JsonValue:
        """What a success looks like, in ToolBench's form; `None` when the document is silent."""
        responses = operation.get("responses")
        if not isinstance(responses, dict):
            return None
        status = min((code for code in responses if code.startswith("2")), default="default")
        if status not in responses:
            return None
        where = f"{where}/responses/{status}"
        try:
            content = self._references.object(responses[status], where).get("content")
            media = _json_media(content)
            if media.get("schema") is not None:
                schema = self._references.schema(media["schema"], where, request=False)
                return mirror(schema)
            return self._example(media, where)
        except Unsupported:
            return None  # the answer's form is a help, not a need

    def _example(self, media: _Object, where: str) -> JsonValue:
        value = media.get("example")
        examples = media.get("examples")
        if value is None and isinstance(examples, dict) and examples:
            value = self._references.object(next(iter(examples.values())), where).get("value")
        return value if len(str(value)) <= _MAX_TEMPLATE_CHARS else None


@functools.lru_cache(maxsize=1024)  # most parameters of a document look alike
def _schema_problem(schema: str) -> str:
    try:
        Draft202012Validator.check_schema(json.loads(schema))
    except SchemaError as exc:
        return " ".join(exc.message.split())[:200]
    return ""


def _name(operation: _Object, path: str, method: str) -> str:
    """The operation's id, its words parted as a model reads them; else method and path."""
    given = operation.get("operationId")
    if isinstance(given, str) and api_identifier(given):
        return words_apart(given)
    return f"{method} {path}"


def _description(operation: _Object, item: _Object) -> str:
    summary = _text(operation, "summary") or _text(item, "summary")
    text = _text(operation, "description") or _text(item, "description")
    if summary and text and summary not in text:
        return f"{summary.rstrip('.')}. {text}"
    return text or summary


def _side_effect(operation: _Object) -> SideEffect | None:
    """What `x-side-effect` or ChatGPT's `x-openai-isConsequential` says; else the method does."""
    declared = operation.get("x-side-effect")
    if isinstance(declared, str) and declared in set(SideEffect):
        return SideEffect(declared)
    consequential = operation.get("x-openai-isConsequential")
    if consequential is True:
        return SideEffect.WRITE
    return SideEffect.READ if consequential is False else None


def _is_json(kind: str) -> bool:
    essence = kind.split(";")[0].strip().lower()
    return essence in ("application/json", "*/*", "application/*", "text/json") or (
        essence.endswith("+json")
    )


def _is_form(kind: str) -> bool:
    return kind.split(";")[0].strip().lower() == _FORM


def _json_media(content: JsonValue) -> _Object:
    for kind, media in content.items() if isinstance(content, dict) else ():
        if _is_json(kind) and isinstance(media, dict):
            return media
    return {}


def _unsupported_media(kinds: list[str]) -> tuple[str, str]:
    if any(kind.lower().startswith("multipart/") for kind in kinds):
        return "it uploads files (multipart), which a tool call cannot carry", "accept JSON as well"
    shown = ", ".join(kinds)[:200] or "none"
    return f"its body is neither JSON nor a form ({shown})", "accept JSON as well"


def _text(holder: _Object, key: str) -> str:
    value = holder.get(key)
    return value.strip() if isinstance(value, str) else ""
