"""Reads one ToolBench tool document (interop 1.2) into API documents.

Real documents hold nulls, missing keys and wrong types. What has an obvious meaning is accepted (a
null description is empty); everything else refuses that one API, or the document, and says why.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from pydantic import JsonValue, ValidationError

from services.contracts.apis import MAX_NAME_CHARS, ApiDocument, ApiParameter, ApiRef
from services.contracts.toolbench.names import api_identifier

MAX_TEXT_CHARS = 65_536
"""Longest description; published ones stay below 10,000 characters."""
MAX_PARAMETERS = 256
_MAX_JSON_DEPTH = 64  # pydantic refuses to print deeper values, which would break the catalogue


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document, an API or a piece of code that is not offered, and how to mend it."""

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
    refusals: list[Refusal] = []
    try:
        tool_document = _object(_load(content), "file")
        context = _ToolContext(
            category_name=category_name,
            ref_category=ref_category,
            tool=tool,
            tool_name=_name(tool_document, "tool_name", ""),
            description=_text(tool_document, "tool_description", ""),
        )
        entries = _list(tool_document, "api_list", "")
        if not entries:
            raise _Refused("api_list", "it has no API", "list at least one API")
    except _Refused as exc:
        return ToolDocument((), (Refusal(file, exc.field, exc.reason, exc.fix),))
    for index, entry in enumerate(entries):
        try:
            api = _api(entry, context, f"api_list[{index}]")
            if api.ref.api in apis:
                raise _Refused(
                    f"api_list[{index}].name",
                    f"{api.api_name!r} has the standard name {api.ref.api!r} of an earlier API, "
                    "which every call would reach",
                    "rename or remove it",
                )
            apis[api.ref.api] = api
        except _Refused as exc:
            refusals.append(Refusal(file, exc.field, exc.reason, exc.fix))
    return ToolDocument(tuple(apis.values()), tuple(refusals))


@dataclass(frozen=True, slots=True)
class _ToolContext:
    category_name: str
    ref_category: str
    tool: str
    tool_name: str
    description: str


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


def _api(entry: JsonValue, context: _ToolContext, field: str) -> ApiDocument:
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
            required_parameters=tuple(_parameters(api, "required_parameters", field)),
            optional_parameters=tuple(_parameters(api, "optional_parameters", field)),
            template_response=template,
        )
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise _Refused(f"{field}.{where}", error["msg"], "correct the value") from exc


def _parameters(api: dict[str, JsonValue], key: str, field: str) -> Iterator[ApiParameter]:
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
        yield ApiParameter(
            name=_name(parameter, "name", where),
            type=_text(parameter, "type", where) or "STRING",
            description=_text(parameter, "description", where),
            default=default,
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
    level: list[JsonValue] = [value]
    for _ in range(_MAX_JSON_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            break
    else:
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
