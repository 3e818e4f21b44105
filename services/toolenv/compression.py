"""Shortens a response as ToolBench does: by the schema of its API's examples (interop 3.2).

The folder is ToolBench's own: `response_examples/<Category>/<tool>.json`, each with an `api_list`
of `{"name", "schema"}`. `filter` drops keys that the schema lacks; `random` does so for one half of
the calls; `truncate` is left to whoever cuts the text. Deviation: where the schema says nothing
about what is inside a value (a type name, `"empty list"`), the value is kept as it is; the
reference looks its keys up in that text.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from pydantic import JsonValue

from services.contracts.apis import ApiRef
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category
from services.toolenv.documents import Refusal
from services.toolenv.jsonvalues import reaches_depth

Strip = Literal["truncate", "filter", "random"]
"""How a response is compressed."""
Schema = Mapping[str, JsonValue]

MAX_SCHEMA_BYTES: Final = 4 << 20
_MAX_DEPTH: Final = 64  # of a schema; a response is followed only as deep as its schema
_HALF: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class ResponseSchemas:
    """Schemas by the address of their API, and the files that were refused. Immutable."""

    by_api: Mapping[ApiRef, Schema]
    refusals: tuple[Refusal, ...] = ()

    def get(self, ref: ApiRef) -> Schema | None:
        """The schema of an API; `None` when no example with content is known."""
        return self.by_api.get(ref)


def load_response_schemas(root: Path) -> ResponseSchemas:
    """Read every file below a `response_examples` folder; blocking file access.

    A file that cannot be used is named in `ResponseSchemas.refusals` and does not stop the others;
    a folder that is missing holds no schemas.
    """
    by_api: dict[ApiRef, Schema] = {}
    refusals: list[Refusal] = []
    for path in sorted(root.glob("*/*.json")):
        file = f"{path.parent.name}/{path.name}"
        try:
            by_api.update(_read_file(path))
        except _Refused as exc:
            refusals.append(Refusal(file, exc.field, exc.reason, exc.fix))
    return ResponseSchemas(MappingProxyType(by_api), tuple(refusals))


def compressed(
    value: JsonValue, *, strip: str, schema: Schema | None, key: str, seed: int = 0
) -> JsonValue:
    """The response in the form that `strip` asks for; the value itself is not changed.

    Args:
        value: What the API returned.
        strip: One of `Strip`; any other text means `truncate`, as in the reference.
        schema: Of the API's responses; nothing is dropped without one or where it is empty.
        key: Content address of the call. `random` decides by it and by `seed` alone, so the same
            call is always answered alike.
        seed: Of `random`.
    """
    is_filtered = strip == "filter" or (strip == "random" and _is_heads(seed, key))
    if not (is_filtered and schema and isinstance(value, dict)):
        return value
    return _filtered(value, schema)


def _is_heads(seed: int, key: str) -> bool:
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < _HALF


def _filtered(value: JsonValue, schema: JsonValue | Schema) -> JsonValue:
    if isinstance(value, dict) and isinstance(schema, Mapping):
        return {key: _filtered(item, schema[key]) for key, item in value.items() if key in schema}
    if isinstance(value, list) and isinstance(schema, list) and schema:
        return [_filtered(item, schema[0]) for item in value]
    return value


class _Refused(Exception):
    def __init__(self, field: str, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.field, self.reason, self.fix = field, reason, fix


def _read_file(path: Path) -> dict[ApiRef, Schema]:
    document = _parse(_read(path))
    entries = document.get("api_list") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise _Refused("api_list", "it is no list of examples", 'write {"api_list": []}')
    category = standardize_category(path.parent.name)
    tool = standardize(path.name.split(".", 1)[0])
    found: dict[ApiRef, Schema] = {}
    for index, entry in enumerate(entries):
        api, schema = _example(entry, f"api_list[{index}]")
        if schema and api and tool:
            # The reference takes the first of two equal names.
            found.setdefault(ApiRef(category=category, tool=tool, api=api), schema)
    return found


def _example(entry: JsonValue, field: str) -> tuple[str, Schema | None]:
    """Standard name and schema; no schema where there is none that could drop a key."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise _Refused(f"{field}.name", "it is missing or no text", "give the API's name")
    schema = entry.get("schema")
    if reaches_depth(schema, _MAX_DEPTH):
        raise _Refused(f"{field}.schema", f"nested deeper than {_MAX_DEPTH} levels", "flatten it")
    return api_identifier(str(entry["name"])), schema if isinstance(schema, dict) else None


def _read(path: Path) -> bytes:
    # Opening a pipe would wait for a writer for ever.
    if not os.path.isfile(path):
        raise _Refused("file", "it is not a regular file", "replace it by a file")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_SCHEMA_BYTES + 1)
    except OSError as exc:
        raise _Refused("file", f"it cannot be read: {exc.strerror}", "check its access") from exc
    if not content.strip():
        raise _Refused("file", "it is empty", 'write {"api_list": []} or remove it')
    if len(content) > MAX_SCHEMA_BYTES:
        raise _Refused("file", f"it exceeds {MAX_SCHEMA_BYTES} bytes", "split the tool")
    return content


def _parse(content: bytes) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(content)
    except (ValueError, RecursionError) as exc:  # also bytes of no Unicode form
        raise _Refused("file", f"it is not JSON: {exc}", "mend the JSON text") from exc
    return parsed
