"""What every importer makes: one tool in ToolBench's document layout, not yet written anywhere."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue, ValidationError

from services.contracts.apis import SideEffect
from services.contracts.errors import InvalidArgument
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category
from services.toolenv.documents import MAX_TEXT_CHARS, Refusal
from services.toolenv.endpoints import Endpoint
from services.toolenv.extension import EXTENSION_KEY, ToolExtension, extension_of

MAX_API_NAME_CHARS: Final = 200
_MAX_CATEGORY_CHARS = 100
_MAX_LISTED_MEMBERS = 20
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\ud800-\udfff]")
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_IN_FOLDERS = re.compile(r"[\x00-\x1f\x7f/\\:]")
_TYPES: Final = {
    "string": "STRING",
    "integer": "NUMBER",
    "number": "NUMBER",
    "boolean": "BOOLEAN",
    "array": "ARRAY",
    "object": "OBJECT",
}


class ToolRefused(InvalidArgument):
    """What was imported cannot be served; nothing was written."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("\n".join(str(refusal) for refusal in refusals))
        self.refusals = tuple(refusals)


@dataclass(frozen=True, slots=True)
class ImportedParameter:
    """One parameter of an API that is being imported."""

    name: str
    schema: dict[str, JsonValue]
    """JSON Schema, complete in itself."""
    is_required: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class ImportedApi:
    """One API that is being imported."""

    name: str
    description: str
    parameters: tuple[ImportedParameter, ...] = ()
    method: str = "GET"
    template_response: JsonValue = None
    endpoint: Endpoint | None = None
    side_effect: SideEffect | None = None
    is_deprecated: bool = False


@dataclass(frozen=True, slots=True)
class ImportedTool:
    """A tool ready to be written by `install`, and what its source had that cannot be used."""

    category: str
    """Name of the category's folder, in standard form."""
    tool: str
    """Standard name, that of the file."""
    document: dict[str, JsonValue]
    code: str | None = None
    """`api.py`."""
    requirements: str | None = None
    """`requirements.txt`."""
    tests: str | None = None
    """`tests.py`."""
    refusals: tuple[Refusal, ...] = field(default=())


def make_tool(
    apis: Iterable[ImportedApi],
    *,
    category: str,
    name: str,
    description: str,
    origin: ToolExtension,
    home_url: str = "",
    code: str | None = None,
    requirements: str | None = None,
    refusals: Sequence[Refusal] = (),
) -> ImportedTool:
    """Lay APIs out as one tool document.

    Two APIs of one standard name cannot both be called: the second is refused.

    Raises:
        InvalidArgument: No name is left of `category` or `name`.
    """
    tool, folder = tool_name(name), category_name(category)
    entries: list[JsonValue] = []
    problems = list(refusals)
    seen: dict[str, str] = {}
    for api in apis:
        standard = api_identifier(api.name)
        where = f"api {api.name[:MAX_API_NAME_CHARS]!r}"
        if not standard or standard in seen:
            reason = "no letter or digit of its name is left in the standard form"
            if standard:
                reason = f"its standard name {standard!r} is that of {seen[standard]!r}"
            problems.append(Refusal(origin.origin, where, reason, "rename it"))
            continue
        try:
            entries.append(_entry(api))
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_input=False)[0]
            reason = error["msg"].removeprefix("Value error, ")
            problems.append(Refusal(origin.origin, where, reason, "correct its address"))
        else:
            seen[standard] = api.name
    document: dict[str, JsonValue] = {
        "tool_name": clean(name, MAX_API_NAME_CHARS),
        "tool_description": clean(description, MAX_TEXT_CHARS),
        "title": clean(name, MAX_API_NAME_CHARS),
        "standardized_name": tool,
        "home_url": clean(home_url, 2048),
        "host": "",
        EXTENSION_KEY: origin.model_dump(mode="json", exclude_defaults=True),
        "api_list": entries,
    }
    return ImportedTool(folder, tool, document, code, requirements, refusals=tuple(problems))


def tool_name(name: str) -> str:
    """Standard name of a tool, safe as a file's name.

    Raises:
        InvalidArgument: Nothing is left of it, or it is too long.
    """
    tool = standardize(name)
    if not tool or len(tool) > MAX_API_NAME_CHARS:
        raise InvalidArgument(
            f"{name[:MAX_API_NAME_CHARS]!r} gives no standard tool name of 1 to "
            f"{MAX_API_NAME_CHARS} characters; choose another with --name"
        )
    return tool


def category_name(category: str) -> str:
    """Standard name of a category, safe as a folder's name.

    Raises:
        InvalidArgument: It would be hidden, leave the tools root, or is empty or too long.
    """
    folder = standardize_category(category.strip())
    if (
        not 0 < len(folder) <= _MAX_CATEGORY_CHARS
        or folder.startswith((".", "_"))
        or _NOT_IN_FOLDERS.search(folder)
    ):
        raise InvalidArgument(
            f"{category[:_MAX_CATEGORY_CHARS]!r} cannot be a category: use 1 to "
            f"{_MAX_CATEGORY_CHARS} letters, digits and underscores, beginning with a letter"
        )
    return folder


def words_apart(name: str) -> str:
    """`getPetById` as `get_pet_by_id`, which survives the standard form; others as they are."""
    parted = _BOUNDARY.sub("_", name)
    return name if parted == name else parted.lower()


def clean(text: str, limit_chars: int) -> str:
    """Text without control characters, line separators other than LF and half characters."""
    return _CONTROL.sub(" ", text.replace("\r\n", "\n")).strip()[:limit_chars]


def toolbench_type(schema: dict[str, JsonValue]) -> str:
    """ToolBench's word for the type of a schema, `STRING` when it names none."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    return _TYPES.get(kind, "STRING") if isinstance(kind, str) else "STRING"


def _entry(api: ImportedApi) -> JsonValue:
    extension = extension_of(
        api.endpoint,
        side_effect=api.side_effect,
        schemas={parameter.name: parameter.schema for parameter in api.parameters},
        deprecated=api.is_deprecated,
    )
    flag = "Deprecated. " if api.is_deprecated else ""
    return {
        "name": clean(api.name, MAX_API_NAME_CHARS),
        "url": "",
        "description": flag + clean(api.description, MAX_TEXT_CHARS - len(flag)),
        "method": api.method,
        "required_parameters": [_parameter(p) for p in api.parameters if p.is_required],
        "optional_parameters": [_parameter(p) for p in api.parameters if not p.is_required],
        "template_response": api.template_response,
        EXTENSION_KEY: extension.to_json(),
    }


def _parameter(parameter: ImportedParameter) -> JsonValue:
    default = parameter.schema.get("default", "")
    return {
        "name": parameter.name,
        "type": toolbench_type(parameter.schema),
        "description": clean(_with_members(parameter), MAX_TEXT_CHARS),
        "default": "" if default is None else default,
    }


def _with_members(parameter: ImportedParameter) -> str:
    """The description with the allowed values: ToolBench's own form has no field for them."""
    text, members = parameter.description.strip(), parameter.schema.get("enum")
    if not isinstance(members, list) or not 0 < len(members) <= _MAX_LISTED_MEMBERS:
        return text
    shown = f"One of: {', '.join(json.dumps(member, ensure_ascii=False) for member in members)}."
    if not text or shown in text:
        return text or shown
    return f"{text} {shown}" if text.endswith((".", "!", "?", ":")) else f"{text}. {shown}"
