"""ToolBench's query (instruction) files: reading and checking (interop 2.1)."""

import json
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from services.contracts.apis import ApiRef
from services.contracts.base import WireModel
from services.contracts.errors import InvalidArgument, PayloadTooLarge
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category

MAX_FILE_BYTES: Final = 256 << 20  # the largest published file has 87,413 queries in about 200 MB


class Query(WireModel):
    """One instruction of a query file."""

    query_id: int
    """As the file gives it, else its position from 0."""
    instruction: str
    apis: tuple[ApiRef, ...] | None
    """The action space in the file's order; `None` when the file leaves it to a retriever."""
    relevant_apis: tuple[tuple[str, str], ...] = ()
    """Pairs of raw tool name and raw API name; used for retrieval scores only."""


def read_queries(path: Path) -> tuple[Query, ...]:
    """Read a query file.

    Raises:
        InvalidArgument: It cannot be read, or a query in it is malformed; the detail names the
            file, the position of the query and the field.
        PayloadTooLarge: It is larger than `MAX_FILE_BYTES`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise PayloadTooLarge(
                f"{path}: {size} bytes exceed the limit of {MAX_FILE_BYTES}; split the file"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidArgument(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
    return parse_queries(text, source=str(path))


def parse_queries(text: str, *, source: str) -> tuple[Query, ...]:
    """Read the text of a query file.

    Args:
        text: A JSON array of objects.
        source: What to call it in messages.

    Raises:
        InvalidArgument: A query is malformed, or two bear the same id.
    """
    try:
        items: JsonValue = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument(f"{source}: not JSON: {exc}") from exc
    if not isinstance(items, list):
        raise InvalidArgument(f"{source}: a {type(items).__name__}, expected an array of queries")
    queries = tuple(_Reader(source, index, item).query() for index, item in enumerate(items))
    positions: dict[int, int] = {}
    for index, query in enumerate(queries):
        first = positions.setdefault(query.query_id, index)
        if first != index:
            raise InvalidArgument(
                f"{source}: queries {first} and {index} both have query_id {query.query_id}"
            )
    return queries


class _Reader:
    """Reads one element and knows where it is, for the messages."""

    def __init__(self, source: str, index: int, item: JsonValue) -> None:
        self._source, self._index = source, index
        if not isinstance(item, dict):
            raise InvalidArgument(
                f"{source}: query {index}: a {type(item).__name__}, expected an object"
            )
        self._item = item

    def query(self) -> Query:
        return Query(
            query_id=self._query_id(),
            instruction=self._instruction(),
            apis=self._apis(),
            relevant_apis=self._relevant(),
        )

    def _error(self, field: str, value: JsonValue, expected: str) -> InvalidArgument:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return InvalidArgument(
            f"{self._source}: query {self._index}: field {field!r} is {shown}, expected {expected}"
        )

    def _query_id(self) -> int:
        value = self._item.get("query_id", self._index)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._error("query_id", value, "an integer")
        return value

    def _instruction(self) -> str:
        value = self._item.get("query")
        if isinstance(value, list) and value:
            value = value[0]  # a few published instances wrap the text in a list
        if not isinstance(value, str) or not value.strip():
            raise self._error("query", value, "a non-empty text")
        return value

    def _apis(self) -> tuple[ApiRef, ...] | None:
        value = self._item.get("api_list")
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._error("api_list", value, "an array of APIs")
        return tuple(self._api(f"api_list.{number}", api) for number, api in enumerate(value))

    def _api(self, field: str, api: JsonValue) -> ApiRef:
        if not isinstance(api, dict):
            raise self._error(field, api, "an object")
        category, tool, name = (
            self._name(field, api, key) for key in ("category_name", "tool_name", "api_name")
        )
        try:
            return ApiRef(
                category=standardize_category(category),
                tool=standardize(tool),
                api=api_identifier(name),
            )
        except ValidationError as exc:
            raise self._error(field, [category, tool, name], "names with letters") from exc

    def _name(self, field: str, api: dict[str, JsonValue], key: str) -> str:
        value = api.get(key)
        if not isinstance(value, str) or not value:
            raise self._error(f"{field}.{key}", value, "a name")
        return value

    def _relevant(self) -> tuple[tuple[str, str], ...]:
        value = self._item.get("relevant APIs", [])
        if not isinstance(value, list):
            raise self._error("relevant APIs", value, "an array of [tool, api] pairs")
        return tuple(self._pair(pair) for pair in value)

    def _pair(self, pair: JsonValue) -> tuple[str, str]:
        match pair:
            case [str(tool), str(api)]:
                return tool, api
        raise self._error("relevant APIs", pair, "[tool, api]")
