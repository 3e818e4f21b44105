"""JSON Schema of Python type hints, read from the syntax tree: nothing is imported or evaluated."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

MAX_DEPTH: Final = 12
_PLAIN: Final[dict[str, dict[str, JsonValue]]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "list": {"type": "array", "items": {}},
    "List": {"type": "array", "items": {}},
    "Sequence": {"type": "array", "items": {}},
    "dict": {"type": "object"},
    "Dict": {"type": "object"},
    "Mapping": {"type": "object"},
    "Any": {},
    "object": {},
}
_SEQUENCES: Final = frozenset({"list", "List", "Sequence", "Iterable"})
_MAPPINGS: Final = frozenset({"dict", "Dict", "Mapping"})
_ENUMS: Final = frozenset({"Enum", "IntEnum", "StrEnum"})
_FIX = (
    "use str, int, float, bool, list, dict, Literal, Optional, or an Enum, TypedDict or dataclass "
    "of this module"
)
_Schema = dict[str, JsonValue]


class Unreadable(Exception):
    """A type hint that cannot become a schema, at a line of the module."""

    def __init__(self, node: ast.AST, reason: str, fix: str = _FIX) -> None:
        super().__init__(reason)
        self.line = getattr(node, "lineno", 0)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True, slots=True)
class Hint:
    """What a type hint means."""

    schema: _Schema
    conversion: str = ""
    """Python expression of the class to make from the JSON value, `[Class]` for a list of them;
    empty when the JSON value is what the function takes."""
    description: str = ""
    """From `Annotated[..., "description"]`."""


class HintReader:
    """Reads the hints of one module."""

    def __init__(self, module: ast.Module) -> None:
        self._classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}

    def read(self, annotation: ast.expr | None) -> Hint:
        """What a hint means; a missing one means text.

        Raises:
            Unreadable: It cannot become a schema.
        """
        return Hint({"type": "string"}) if annotation is None else self._read(annotation, 0)

    def _read(self, node: ast.expr, depth: int) -> Hint:
        if depth > MAX_DEPTH:
            raise Unreadable(node, "the type hint is nested too deeply or contains itself")
        if isinstance(node, ast.Constant):
            return self._constant(node, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._union([node.left, node.right], node, depth)
        if isinstance(node, ast.Subscript):
            return self._subscript(node, depth)
        name = last_name(node)
        if isinstance(node, ast.Name) and name in self._classes:
            return self._class(self._classes[name], depth)
        if name in ("date", "datetime", "time"):
            raise Unreadable(node, f"{name} is no JSON type", "take a str in ISO 8601 and parse it")
        if name is None or name not in _PLAIN:
            raise Unreadable(node, f"type hint {ast.unparse(node)[:100]!r} is not supported")
        return Hint(dict(_PLAIN[name]))

    def _constant(self, node: ast.Constant, depth: int) -> Hint:
        if node.value is None:
            return Hint({"type": "null"})
        if not isinstance(node.value, str):
            raise Unreadable(node, f"type hint {node.value!r} is not a type")
        try:
            inner = ast.parse(node.value, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            raise Unreadable(node, f"type hint {node.value[:100]!r} is not Python") from exc
        for child in ast.walk(inner):
            if hasattr(child, "lineno"):
                child.lineno = node.lineno
        return self._read(inner, depth + 1)

    def _subscript(self, node: ast.Subscript, depth: int) -> Hint:
        name = last_name(node.value)
        parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            return Hint(_enumeration([_literal(part) for part in parts]))
        if name == "Optional":
            return self._union([*parts, ast.Constant(None)], node, depth)
        if name == "Union":
            return self._union(parts, node, depth)
        if name == "Annotated":
            inner = self._read(parts[0], depth + 1)
            texts = [p.value for p in parts[1:] if isinstance(p, ast.Constant)]
            text = next((text for text in texts if isinstance(text, str)), "")
            return Hint(inner.schema, inner.conversion, text)
        if name in ("Required", "NotRequired"):
            return self._read(parts[0], depth + 1)
        if name in _SEQUENCES and len(parts) == 1:
            item = self._read(parts[0], depth + 1)
            conversion = f"[{item.conversion}]" if item.conversion else ""
            return Hint({"type": "array", "items": item.schema}, conversion)
        if name in _MAPPINGS and len(parts) == 2:
            key, value = self._read(parts[0], depth + 1), self._read(parts[1], depth + 1)
            if key.schema != {"type": "string"} or value.conversion:
                raise Unreadable(node, "a JSON object has text as keys and plain values")
            return Hint({"type": "object", "additionalProperties": value.schema})
        raise Unreadable(node, f"type hint {ast.unparse(node)[:100]!r} is not supported")

    def _union(self, parts: list[ast.expr], node: ast.expr, depth: int) -> Hint:
        hints = [self._read(part, depth + 1) for part in parts]
        conversions = {hint.conversion for hint in hints} - {""}
        plain = [h for h in hints if not h.conversion and h.schema != {"type": "null"}]
        if len(conversions) > 1 or (conversions and plain):
            raise Unreadable(node, "a union with a class of this module is ambiguous in JSON")
        schemas = [hint.schema for hint in hints]
        return Hint(_any_of(schemas), next(iter(conversions), ""))

    def _class(self, node: ast.ClassDef, depth: int) -> Hint:
        bases = {last_name(base) for base in node.bases}
        if bases & _ENUMS:
            return Hint(_enumeration([value for _, value in enum_members(node)]), node.name)
        is_dataclass = any(
            last_name(d.func if isinstance(d, ast.Call) else d) == "dataclass"
            for d in node.decorator_list
        )
        if not (bases & {"TypedDict", "BaseModel", "NamedTuple"} or is_dataclass):
            raise Unreadable(node, f"class {node.name} is no Enum, TypedDict or dataclass")
        conversion = "" if "TypedDict" in bases else node.name
        is_total = not any(
            k.arg == "total" and isinstance(k.value, ast.Constant) and k.value.value is False
            for k in node.keywords
        )
        return Hint(self._fields(node, depth, has_optional_keys=not is_total), conversion)

    def _fields(self, node: ast.ClassDef, depth: int, *, has_optional_keys: bool) -> _Schema:
        properties: dict[str, JsonValue] = {}
        required: list[JsonValue] = []
        for statement in node.body:
            if not (
                isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
            ):
                continue
            hint = self._read(statement.annotation, depth + 1)
            if hint.conversion:
                reason = f"field {statement.target.id!r} is itself of a class of this module"
                raise Unreadable(statement, reason, "use plain types in it")
            described: _Schema = {"description": hint.description} if hint.description else {}
            properties[statement.target.id] = {**hint.schema, **described}
            outer = statement.annotation
            marker = last_name(outer.value) if isinstance(outer, ast.Subscript) else None
            is_needed = statement.value is None and not has_optional_keys
            if marker == "Required" or (is_needed and marker != "NotRequired"):
                required.append(statement.target.id)
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }


def last_name(node: ast.AST) -> str | None:
    """`c` of `c` and of `a.b.c`; `None` for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def enum_members(node: ast.ClassDef) -> list[tuple[str, JsonValue]]:
    """Names and values of an Enum's members.

    Raises:
        Unreadable: There are none, or a value is no literal.
    """
    members = [
        (statement.targets[0].id, _literal(statement.value))
        for statement in node.body
        if isinstance(statement, ast.Assign)
        and len(statement.targets) == 1
        and isinstance(statement.targets[0], ast.Name)
        and not statement.targets[0].id.startswith("_")
    ]
    if not members:
        raise Unreadable(node, f"Enum {node.name} has no members", "add members with literals")
    return members


def _literal(node: ast.expr) -> JsonValue:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as exc:
        reason = f"{ast.unparse(node)[:100]!r} is no literal"
        raise Unreadable(node, reason, "write text or a number") from exc
    if value is not None and not isinstance(value, str | int | float | bool):
        reason = f"{ast.unparse(node)[:100]!r} is neither text nor a number"
        raise Unreadable(node, reason, "write text or a number")
    return value


def _enumeration(values: list[JsonValue]) -> _Schema:
    kinds: list[tuple[str, Callable[[JsonValue], bool]]] = [
        ("string", lambda value: isinstance(value, str)),
        ("boolean", lambda value: isinstance(value, bool)),
        ("integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
        ("number", lambda value: isinstance(value, float)),
    ]
    kind = next((name for name, fits in kinds if all(map(fits, values))), None)
    return {"type": kind, "enum": values} if kind else {"enum": values}


def _any_of(schemas: list[_Schema]) -> _Schema:
    """One schema for several: a list of types where that says it all."""
    flat = [one for one in schemas if one != {"type": "null"}]
    if len(flat) == len(schemas) or len(flat) != 1:
        kinds: list[JsonValue] = [one["type"] for one in schemas if set(one) == {"type"}]
        if len(kinds) == len(schemas):
            return {"type": kinds}
        alternatives: list[JsonValue] = list(schemas)
        return {"anyOf": alternatives}
    (only,) = flat
    kind = only.get("type")
    if not isinstance(kind, str):
        return {"anyOf": [only, {"type": "null"}]} if only else {}
    members = only.get("enum")
    nullable: _Schema = {**only, "type": [kind, "null"]}
    return {**nullable, "enum": [*members, None]} if isinstance(members, list) else nullable
