"""Schemas of OpenAPI documents, made complete in themselves: references inlined, within bounds.

Only references into the same document are followed. A type that contains itself is cut where it
comes round again, and what exceeds the bound is cut to its type; the description says so.
"""

from typing import Final
from urllib.parse import unquote

from pydantic import JsonValue

MAX_SCHEMA_NODES: Final = 1500
"""Sub-schemas of one parameter, written out."""
MAX_REFERENCE_HOPS: Final = 32
_MAX_DEPTH = 24
_MAX_MIRROR_DEPTH = 6
_MAX_MIRROR_NODES = 300
_KEPT: Final = frozenset(
    {"type", "enum", "const", "default", "format", "description", "examples", "title", "pattern"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minLength", "maxLength", "minItems", "maxItems", "uniqueItems"}
    | {"minProperties", "maxProperties", "required"}
)
"""Keywords whose values hold no schema."""
_LISTS: Final = ("allOf", "oneOf", "anyOf", "prefixItems")
_SINGLE: Final = ("items", "not", "additionalProperties")
_MIRROR_LEAVES: Final = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
}


class Unsupported(Exception):
    """A part of a document that cannot be imported.

    Attributes:
        pointer: JSON pointer to it.
        reason: What is wrong with it.
        fix: How to mend it.
    """

    def __init__(self, pointer: str, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.pointer, self.reason, self.fix = pointer, reason, fix


def pointer(*parts: object) -> str:
    """A JSON pointer in fragment form (RFC 6901, section 6, without percent-encoding)."""
    return "#" + "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


class References:
    """Resolves references within one document."""

    def __init__(self, document: dict[str, JsonValue]) -> None:
        self._document = document

    def object(self, value: JsonValue, where: str) -> dict[str, JsonValue]:
        """The object at `where`, after following its references.

        Raises:
            Unsupported: It is none, or a reference leads outside, nowhere, or in a circle.
        """
        resolved, _ = self._follow(value, where)
        if not isinstance(resolved, dict):
            raise Unsupported(where, "it is no object", "write an object")
        return resolved

    def schema(self, value: JsonValue, where: str, *, request: bool) -> dict[str, JsonValue]:
        """A schema with everything inlined, in the words of JSON Schema 2020-12.

        Args:
            value: The schema as the document has it.
            where: Pointer to it, for errors.
            request: Leave out what only a response holds (`readOnly`), else what only a request
                holds.

        Raises:
            Unsupported: See `object`.
        """
        return _Inliner(self, request=request).inline(value, where)

    def _follow(self, value: JsonValue, where: str) -> tuple[JsonValue, tuple[str, ...]]:
        """What a value's references lead to, and the references followed."""
        followed: list[str] = []
        while isinstance(value, dict) and isinstance(value.get("$ref"), str):
            reference = str(value["$ref"])
            if reference in followed or len(followed) >= MAX_REFERENCE_HOPS:
                raise Unsupported(
                    where, f"$ref {reference[:200]!r} leads in a circle", "point it at a definition"
                )
            followed.append(reference)
            value = self._target(reference, where)
        return value, tuple(followed)

    def _target(self, reference: str, where: str) -> JsonValue:
        if not reference.startswith("#"):
            raise Unsupported(
                where,
                f"$ref {reference[:200]!r} leads outside the document, which is never fetched",
                "bundle the document into one file first",
            )
        node: JsonValue = self._document
        for part in reference[1:].split("/")[1:]:
            key = _unescape(part)
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isascii() and key.isdigit() and len(key) < 7:
                node = node[int(key)] if int(key) < len(node) else None
            else:
                node = None
        if node is None:
            raise Unsupported(where, f"$ref {reference[:200]!r} leads nowhere", "define its target")
        return node


def _unescape(part: str) -> str:
    return unquote(part).replace("~1", "/").replace("~0", "~")


class _Inliner:
    def __init__(self, references: References, *, request: bool) -> None:
        self._references = references
        self._hidden = "readOnly" if request else "writeOnly"
        self._left = MAX_SCHEMA_NODES
        self._open: list[str] = []  # references being written out, outermost first

    def inline(self, value: JsonValue, where: str) -> dict[str, JsonValue]:
        if isinstance(value, bool):
            return {} if value else {"not": {}}
        resolved, followed = self._references._follow(value, where)
        if not isinstance(resolved, dict):
            raise Unsupported(where, "the schema is no object", "write a schema")
        circular = next((one for one in followed if one in self._open), None)
        if circular is not None:
            name = circular.rpartition("/")[2]
            return _cut(resolved, f"Another {name}, which may hold more of its kind.")
        self._left -= 1
        if self._left < 0 or len(self._open) > _MAX_DEPTH:
            return _cut(resolved, "Left out here: the whole schema is too large.")
        self._open += followed or [f"{where} {id(resolved)}"]
        try:
            inlined = self._keywords(resolved, where)
        finally:
            del self._open[-len(followed or (1,)) :]
        if isinstance(value, dict) and isinstance(value.get("description"), str):
            inlined["description"] = value["description"]  # beside a $ref it is the nearer one
        return inlined

    def _keywords(self, schema: dict[str, JsonValue], where: str) -> dict[str, JsonValue]:
        out: dict[str, JsonValue] = {key: schema[key] for key in schema if key in _KEPT}
        for key in _LISTS:
            members = schema.get(key)
            if isinstance(members, list):
                out[key] = [
                    self.inline(member, f"{where}/{key}/{index}")
                    for index, member in enumerate(members)
                ]
        for key in _SINGLE:
            if isinstance(schema.get(key), dict | bool):
                out[key] = (
                    schema[key]
                    if isinstance(schema[key], bool)
                    else self.inline(schema[key], f"{where}/{key}")
                )
        if isinstance(schema.get("properties"), dict):
            self._properties(schema, out, where)
        return _modern(schema, out)

    def _properties(
        self, schema: dict[str, JsonValue], out: dict[str, JsonValue], where: str
    ) -> None:
        properties = schema["properties"]
        assert isinstance(properties, dict)
        shown: dict[str, JsonValue] = {}
        for name, value in properties.items():
            at = f"{where}/properties/{name}"
            target = self._references._follow(value, at)[0]
            if not (isinstance(target, dict) and target.get(self._hidden) is True):
                shown[name] = self.inline(value, at)
        out["properties"] = shown
        required = out.get("required")
        if isinstance(required, list):
            out["required"] = [name for name in required if name in shown or name not in properties]


def _modern(schema: dict[str, JsonValue], out: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Turn OpenAPI 3.0's own keywords into those of JSON Schema."""
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        flag = out.get(key)
        if isinstance(flag, bool):
            del out[key]
            if flag and bound in out:
                out[key] = out.pop(bound)
    if not isinstance(out.get("required", []), list):
        del out["required"]  # `required: true` on a property is a habit of draft 3
    if "example" in schema and "examples" not in out:
        out["examples"] = [schema["example"]]
    if not isinstance(out.get("examples", []), list):
        del out["examples"]
    if out.get("type") == "file":
        out.update(type="string", format="binary")
    return _nullable(out) if True in (schema.get("nullable"), schema.get("x-nullable")) else out


def _nullable(out: dict[str, JsonValue]) -> dict[str, JsonValue]:
    kind = out.get("type")
    if isinstance(kind, str):
        out["type"] = [kind, "null"]
        members = out.get("enum")
        if isinstance(members, list) and None not in members:
            out["enum"] = [*members, None]
        return out
    return {"anyOf": [out, {"type": "null"}]} if out else out


def _cut(schema: dict[str, JsonValue], note: str) -> dict[str, JsonValue]:
    kind = schema.get("type")
    if not isinstance(kind, str | list):
        kind = "object" if "properties" in schema or "allOf" in schema else None
    return {"type": kind, "description": note} if kind else {"description": note}


def merged_object(schema: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """An inlined schema as one plain object with `properties`, `None` when it is no such object.

    `allOf` is merged; alternatives (`oneOf`, `anyOf`) and null are not objects with one list of
    properties.
    """
    if any(key in schema for key in ("oneOf", "anyOf", "not", "enum", "const")):
        return None
    if schema.get("type", "object") != "object":
        return None
    properties: dict[str, JsonValue] = {}
    required: list[JsonValue] = []
    members = schema.get("allOf", [])
    for member in [*(members if isinstance(members, list) else []), {**schema, "allOf": []}]:
        if not isinstance(member, dict):
            return None
        part = member if member.get("allOf") == [] else merged_object(member)
        if part is None:
            return None
        found, needed = part.get("properties", {}), part.get("required", [])
        properties.update(found if isinstance(found, dict) else {})
        required += needed if isinstance(needed, list) else []
    if not properties:
        return None
    return {"type": "object", "properties": properties, "required": required}


def mirror(schema: JsonValue) -> JsonValue:
    """An inlined schema in the form of ToolBench's response examples: leaves are type names."""
    return _Mirror().of(schema, 0)


class _Mirror:
    def __init__(self) -> None:
        self._left = _MAX_MIRROR_NODES

    def of(self, schema: JsonValue, depth: int) -> JsonValue:
        self._left -= 1
        if not isinstance(schema, dict) or self._left < 0 or depth > _MAX_MIRROR_DEPTH:
            return "str"
        for key in ("oneOf", "anyOf"):
            members = schema.get(key)
            if isinstance(members, list) and members and "properties" not in schema:
                return self.of(members[0], depth)
        merged = merged_object(schema)
        if merged is not None and isinstance(merged["properties"], dict):
            return {
                name: self.of(value, depth + 1)
                for name, value in merged["properties"].items()
                if self._left > 0
            }
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if kind == "array":
            return [self.of(schema.get("items"), depth + 1)]
        if kind == "object" or "properties" in schema or "additionalProperties" in schema:
            return {}
        return _MIRROR_LEAVES.get(kind, "str") if isinstance(kind, str) else "str"
