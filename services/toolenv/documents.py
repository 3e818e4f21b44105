"""Reads one ToolBench tool document (interop 1.2) into API documents and their endpoints.

Real documents hold nulls, missing keys and wrong types. What has an obvious meaning is accepted (a
null description is empty); everything else refuses that one API, or the document, and says why.
What other sources know beyond ToolBench's fields stands under `x-toolwright`
(`services.toolenv.extension`), which is read strictly.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from pydantic import JsonValue, ValidationError

from services.contracts.apis import (
    MAX_NAME_CHARS,
    ApiDocument,
    ApiParameter,
    ApiRef,
    InverseCall,
)
from services.contracts.toolbench.names import api_identifier
from services.toolenv.endpoints import Endpoint
from services.toolenv.extension import (
    EXTENSION_KEY,
    ApiExtension,
    ToolExtension,
    credential_part,
    rapidapi_endpoint,
)
from services.toolenv.jsonvalues import outside_reference, reaches_depth

MAX_TEXT_CHARS = 65_536
"""Longest description; published ones stay below 10,000 characters."""
MAX_PARAMETERS = 256
_MAX_JSON_DEPTH = 64  # pydantic refuses to print deeper values, which would break the catalogue


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document, an API, its address or its code that is not offered, and how to mend it."""

    file: str
    field: str
    """Where in the file, as `api_list[3].name`; `file` for the file as a whole."""
    reason: str
    fix: str

    def __str__(self) -> str:
        """One line for logs and the command line."""
        return f"{self.file}: {self.field}: {self.reason}; {self.fix}"


@dataclass(frozen=True, slots=True)
class ToolDocument:
    """The usable part of one tool document, APIs in the order of the file."""

    apis: tuple[ApiDocument, ...]
    refusals: tuple[Refusal, ...]
    endpoints: Mapping[ApiRef, Endpoint] = dataclasses.field(default_factory=dict)
    """Where the APIs live outside; those that the document gives no address for are missing."""
    origin: ToolExtension | None = None
    """Where the document came from, if it says so."""


class _Refused(Exception):
    def __init__(self, field: str, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.field, self.reason, self.fix = field, reason, fix


def parse_document(
    content: bytes, *, file: str, category_name: str, ref_category: str, tool: str
) -> ToolDocument:
    """Parse a tool document; never raises for what the file holds.

    Args:
        content: Bytes of the file.
        file: Name of the file in refusals.
        category_name: Name of the category's folder, verbatim.
        ref_category: The same in standard form.
        tool: Standard tool name, from the file's name.
    """
    apis: dict[str, ApiDocument] = {}
    endpoints: dict[ApiRef, Endpoint] = {}
    refusals: list[Refusal] = []
    try:
        tool_document = _object(_load(content), "file")
        context = _ToolContext(
            category_name=category_name,
            ref_category=ref_category,
            tool=tool,
            tool_name=_name(tool_document, "tool_name", ""),
            description=_text(tool_document, "tool_description", ""),
            host=_host(tool_document),
        )
        origin = _extension(tool_document, ToolExtension, EXTENSION_KEY)
        entries = _list(tool_document, "api_list", "")
        if not entries:
            raise _Refused("api_list", "it has no API", "list at least one API")
    except _Refused as exc:
        return ToolDocument((), (Refusal(file, exc.field, exc.reason, exc.fix),))
    for index, entry in enumerate(entries):
        field_name = f"api_list[{index}]"
        try:
            extension = _extension(_object(entry, field_name), ApiExtension, field_name)
            api = _api(entry, context, extension or ApiExtension(), field_name)
            if api.ref.api in apis:
                raise _Refused(
                    f"{field_name}.name",
                    f"{api.api_name!r} has the standard name {api.ref.api!r} of an earlier API, "
                    "which every call would reach",
                    "rename or remove it",
                )
            apis[api.ref.api] = api
            endpoint = _endpoint(_object(entry, field_name), api, context, extension, field_name)
            if endpoint is not None:
                endpoints[api.ref] = endpoint
        except _Refused as exc:
            refusals.append(Refusal(file, exc.field, exc.reason, exc.fix))
    for name, api in apis.items():
        if api.inverse is not None and api.inverse.api.api not in apis:
            reason = f"the inverse of {name!r}, {api.inverse.api.api!r}, is no API of this tool"
            refusals.append(Refusal(file, f"{EXTENSION_KEY}.inverse", reason, "correct the name"))
            apis[name] = api.model_copy(update={"inverse": None})
    return ToolDocument(tuple(apis.values()), tuple(refusals), endpoints, origin)


@dataclass(frozen=True, slots=True)
class _ToolContext:
    category_name: str
    ref_category: str
    tool: str
    tool_name: str
    description: str
    host: str


def _load(content: bytes) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(content.decode("utf-8-sig"), parse_constant=_not_json)
    except UnicodeDecodeError as exc:
        raise _Refused("file", f"byte {exc.start} is not UTF-8", "save it as UTF-8") from exc
    except ValueError as exc:
        raise _Refused("file", f"it is not JSON: {exc}", "mend the JSON text") from exc
    except RecursionError as exc:
        raise _Refused("file", "its JSON is nested too deeply", "flatten it") from exc
    return parsed


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


_Extension = TypeVar("_Extension", ApiExtension, ToolExtension)


def _extension(
    holder: dict[str, JsonValue], model: type[_Extension], where: str
) -> _Extension | None:
    value = holder.get(EXTENSION_KEY)
    if value is None:
        return None
    where = where if where == EXTENSION_KEY else f"{where}.{EXTENSION_KEY}"
    _check_printable(value, where)
    _check_references(value, where)
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        raise _Refused(*_first(exc, where), "see docs/guides/add-a-tool.md") from exc


def _first(exc: ValidationError, where: str) -> tuple[str, str]:
    error = exc.errors(include_url=False, include_input=False)[0]
    parts = [str(part)[:100] for part in error["loc"]]
    return ".".join([where, *parts]), error["msg"].removeprefix("Value error, ")


def _check_references(value: JsonValue, where: str) -> None:
    """Schemas are complete in themselves: nothing is ever looked up outside the document."""
    outside = outside_reference(value)
    if outside is not None:
        raise _Refused(where, f"{outside} leads outside", "inline it")


def _host(tool_document: dict[str, JsonValue]) -> str:
    """The tool's `host`, empty when it is no plain name: it is only ever sent in a header."""
    host = tool_document.get("host")
    return host if isinstance(host, str) and re.fullmatch(r"[A-Za-z0-9.-]{1,253}", host) else ""


def _endpoint(
    entry: dict[str, JsonValue],
    api: ApiDocument,
    context: _ToolContext,
    extension: ApiExtension | None,
    where: str,
) -> Endpoint | None:
    """Where the API lives; a crawled URL that makes no sense leaves the API without an address."""
    if extension is not None:
        _check_credentials(extension, context.tool, where)
        return extension.endpoint()
    url = _text(entry, "url", where)
    names = [p.name for p in api.required_parameters + api.optional_parameters]
    fix = "correct it, or leave it empty for an API that is not called live"
    try:
        return rapidapi_endpoint(host=context.host, url=url, method=api.method, parameters=names)
    except ValidationError as exc:
        raise _Refused(f"{where}.url", _first(exc, where)[1], fix) from exc
    except ValueError as exc:
        raise _Refused(f"{where}.url", str(exc), fix) from exc


def _check_credentials(extension: ApiExtension, tool: str, where: str) -> None:
    """Refuse a document that has another tool's secret sent to a host of its own choice."""
    for index, placement in enumerate(extension.http.auth if extension.http else ()):
        owner, dot, _ = placement.credential.partition(".")
        if dot and owner != credential_part(tool):
            raise _Refused(
                f"{where}.{EXTENSION_KEY}.http.auth[{index}].credential",
                f"{placement.credential!r} belongs to the tool {owner!r}",
                f"name one of this tool, {credential_part(tool)}.<scheme>, and store the secret "
                "for it",
            )


def _api(
    entry: JsonValue, context: _ToolContext, extension: ApiExtension, field: str
) -> ApiDocument:
    api = _object(entry, field)
    name = _name(api, "name", field)
    standard = api_identifier(name)
    if not standard:
        raise _Refused(
            f"{field}.name",
            f"{name!r} has no letter or digit, so its standard name is empty",
            "give the API a name with letters",
        )
    template = api.get("template_response")
    if template is None:
        template = api.get("schema")
    _check_printable(template, f"{field}.template_response")
    try:
        return ApiDocument(
            ref=ApiRef(category=context.ref_category, tool=context.tool, api=standard),
            category_name=context.category_name,
            tool_name=context.tool_name,
            api_name=name,
            tool_description=context.description,
            description=_text(api, "description", field),
            method=_text(api, "method", field) or "GET",
            required_parameters=tuple(_parameters(api, "required_parameters", extension, field)),
            optional_parameters=tuple(_parameters(api, "optional_parameters", extension, field)),
            template_response=template,
            declared_effect=extension.side_effect,
            inverse=_inverse(extension, context, field),
        )
    except ValidationError as exc:
        raise _Refused(*_first(exc, field), "correct the value") from exc


def _inverse(extension: ApiExtension, context: _ToolContext, field: str) -> InverseCall | None:
    """The call that undoes the API's; refused where it would reach into another tool."""
    if extension.inverse is None:
        return None
    category, tool = context.ref_category, context.tool
    name = extension.inverse.api.removeprefix(f"{category}/{tool}/")
    api = api_identifier(name)
    if "/" in name or not api:
        raise _Refused(
            f"{field}.{EXTENSION_KEY}.inverse.api",
            f"{name!r} is no API of {category}/{tool}",
            "name one of the same tool: nobody is asked before it is called",
        )
    arguments = {
        api_identifier(parameter) or parameter: value
        for parameter, value in extension.inverse.arguments.items()
    }
    return InverseCall(api=ApiRef(category=category, tool=tool, api=api), arguments=arguments)


def _parameters(
    api: dict[str, JsonValue], key: str, extension: ApiExtension, field: str
) -> Iterator[ApiParameter]:
    entries = _list(api, key, field)
    if len(entries) > MAX_PARAMETERS:
        raise _Refused(
            f"{field}.{key}",
            f"{len(entries)} parameters exceed the limit of {MAX_PARAMETERS}",
            "remove some",
        )
    for index, entry in enumerate(entries):
        where = f"{field}.{key}[{index}]"
        parameter = _object(entry, where)
        default = parameter.get("default", "")
        _check_printable(default, f"{where}.default")
        name = _name(parameter, "name", where)
        yield ApiParameter(
            name=name,
            type=_text(parameter, "type", where) or "STRING",
            description=_text(parameter, "description", where),
            default=default,
            json_schema=extension.schemas.get(name),
        )


def _object(value: JsonValue, field: str) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise _Refused(field, f"found {_kind(value)} instead of an object", "write a JSON object")
    return value


def _list(holder: dict[str, JsonValue], key: str, field: str) -> list[JsonValue]:
    value = holder.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _Refused(_join(field, key), f"found {_kind(value)} instead of a list", "write a list")
    return value


def _text(holder: dict[str, JsonValue], key: str, field: str) -> str:
    """The text under `key`; a number or boolean is printed, null and absence are empty."""
    value = holder.get(key)
    if value is None:
        return ""
    if isinstance(value, dict | list):
        raise _Refused(_join(field, key), f"found {_kind(value)} instead of text", "write a string")
    text = str(value)
    if len(text) > MAX_TEXT_CHARS:
        raise _Refused(
            _join(field, key),
            f"{len(text)} characters exceed the limit of {MAX_TEXT_CHARS}",
            "shorten it",
        )
    _check_unicode(text, _join(field, key))
    return text


def _name(holder: dict[str, JsonValue], key: str, field: str) -> str:
    text = _text(holder, key, field)
    if not text.strip():
        raise _Refused(_join(field, key), "it is missing or empty", "give it a name")
    if len(text) > MAX_NAME_CHARS:
        raise _Refused(
            _join(field, key),
            f"{len(text)} characters exceed the limit of {MAX_NAME_CHARS}",
            "shorten it",
        )
    return text


def _check_printable(value: JsonValue, field: str) -> None:
    if reaches_depth(value, _MAX_JSON_DEPTH):
        raise _Refused(field, f"nested deeper than {_MAX_JSON_DEPTH} levels", "flatten it")
    _check_unicode(json.dumps(value, ensure_ascii=False), field)


def _check_unicode(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise _Refused(
            field, f"it holds {text[exc.start]!r}, half a character", "write whole characters"
        ) from exc


def _join(field: str, key: str) -> str:
    return f"{field}.{key}" if field else key


def _kind(value: JsonValue) -> str:
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
