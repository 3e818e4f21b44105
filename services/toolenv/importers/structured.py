"""Reads JSON or YAML that somebody else wrote: bounded in size, depth, nodes and aliases.

YAML is read as JSON with other punctuation: no dates, no `yes` for true, no merge keys, no tags. An
alias is allowed as long as the text, written out, stays below the bound on nodes. What begins with
`{` or `[` is JSON and nothing else.
"""

import json
import re
from typing import Final, NoReturn

import yaml
from pydantic import JsonValue

from services.toolenv.documents import Refusal
from services.toolenv.importers.imported import ToolRefused

MAX_BYTES: Final = 8 << 20
MAX_NODES: Final = 400_000
MAX_DEPTH: Final = 100
_MAX_ALIASES = 10_000
_MAX_EVENTS = 2 * MAX_NODES + 1000


class _Loader(yaml.CSafeLoader):
    """YAML's core schema, read with the types of JSON."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` a plain key: nested merges multiply the text that is held."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def load_object(content: bytes, *, file: str) -> dict[str, JsonValue]:
    """The JSON object that a text in JSON or YAML stands for.

    Args:
        content: The text, UTF-8.
        file: Its name in refusals.

    Raises:
        ToolRefused: It is neither, or breaks a bound.
    """
    if len(content) > MAX_BYTES:
        raise refusal(
            file,
            f"{len(content)} bytes exceed the limit of {MAX_BYTES}",
            "split the document or leave unused parts out",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise refusal(file, f"byte {exc.start} is not UTF-8", "save it as UTF-8") from exc
    value = _parse(text, file)
    normal = _normal(value, _Budget(file), 0)
    if not isinstance(normal, dict):
        raise refusal(file, "it holds no object at its top", "write a JSON or YAML object")
    return normal


def _parse(text: str, file: str) -> object:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text, parse_constant=_not_json)
        except RecursionError as exc:
            raise refusal(file, "its JSON is nested too deeply", "flatten it") from exc
        except ValueError as exc:
            raise refusal(file, f"it is not JSON: {exc}", "mend the JSON text") from exc
    try:
        _check_events(text, file)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a CSafeLoader
    except (yaml.YAMLError, ValueError, OverflowError) as exc:
        reason = " ".join(str(exc).split())[:300]
        raise refusal(file, f"it is neither JSON nor YAML: {reason}", "mend the text") from exc
    except RecursionError as exc:
        raise refusal(file, "its YAML is nested too deeply", "flatten it") from exc


def _check_events(text: str, file: str) -> None:
    """Refuse what would be costly to build, before anything is built."""
    depth = aliases = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        if depth > MAX_DEPTH:
            raise refusal(file, f"nested deeper than {MAX_DEPTH} levels", "flatten it")
        if aliases > _MAX_ALIASES:
            raise refusal(file, f"more than {_MAX_ALIASES} aliases", "write the values out")
        if count > _MAX_EVENTS:
            raise refusal(file, f"more than {MAX_NODES} values", "split the document")


class _Budget:
    def __init__(self, file: str) -> None:
        self.file = file
        self.left = MAX_NODES

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise refusal(
                self.file,
                f"written out it has more than {MAX_NODES} values",
                "split the document, or use fewer aliases",
            )


def _normal(value: object, budget: _Budget, depth: int) -> JsonValue:
    """A copy of JSON's types only; aliases are written out, so no part is shared."""
    budget.spend()
    if depth > MAX_DEPTH:
        raise refusal(budget.file, f"nested deeper than {MAX_DEPTH} levels", "flatten it")
    if isinstance(value, str):
        return _whole_characters(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and abs(value) < float("inf"):
        return value
    if isinstance(value, dict):
        return {
            _key(key, budget): _normal(child, budget, depth + 1) for key, child in value.items()
        }
    if isinstance(value, list):
        return [_normal(child, budget, depth + 1) for child in value]
    raise refusal(budget.file, f"{str(value)[:80]!r} is not a JSON value", "write text or a number")


def _key(key: object, budget: _Budget) -> str:
    if isinstance(key, str):
        return _whole_characters(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)  # `200:` among the responses
    raise refusal(budget.file, f"key {str(key)[:80]!r} is not text", "put it in quotes")


def _whole_characters(text: str) -> str:
    """JSON may name half of a surrogate pair, which no file can hold; it becomes `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def refusal(file: str, reason: str, fix: str) -> ToolRefused:
    """The error that refuses a file as a whole."""
    return ToolRefused([Refusal(file, "file", reason, fix)])
