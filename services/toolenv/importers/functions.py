"""Imports Python functions as APIs: type hints and docstrings become the document.

The module is read as a syntax tree and never run here. It becomes the tool's `api.py` as it is,
except that the marks of `services.toolenv.authoring` are taken out, and that a function whose
names or types JSON cannot carry is given an adapter at the end.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import docstring_parser
from pydantic import JsonValue, ValidationError

from services.contracts.apis import SideEffect
from services.contracts.toolbench.names import python_identifier
from services.toolenv.catalog import MAX_CODE_BYTES, parse_requirements
from services.toolenv.documents import MAX_TEXT_CHARS, Refusal
from services.toolenv.extension import ToolExtension
from services.toolenv.importers.adapters import adapter
from services.toolenv.importers.annotations import Hint, HintReader, Unreadable
from services.toolenv.importers.imported import (
    ImportedApi,
    ImportedParameter,
    ImportedTool,
    ToolRefused,
    make_tool,
    words_apart,
)
from services.toolenv.importers.marks import Marks
from services.toolenv.importers.schemas import mirror
from services.toolenv.importers.structured import refusal

DEFAULT_CATEGORY: Final = "Customized"
MAX_FUNCTIONS: Final = 200
_OPTIONS: Final[dict[str, type]] = {
    "name": str,
    "description": str,
    "category": str,
    "side_effect": str,
    "deprecated": bool,
    "template_response": object,
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class _Read:
    api: ImportedApi
    category: str
    adapter: str


def import_functions(
    content: bytes,
    *,
    file: str,
    name: str,
    category: str | None = None,
    requirements: bytes | None = None,
    hosts: Sequence[str] = (),
) -> ImportedTool:
    """Read a Python module as a tool.

    Args:
        content: Source of the module, UTF-8.
        file: Its name in refusals.
        name: Name of the tool.
        category: Category of the tool; that of the marks, else `Customized`, by default.
        requirements: Content of a `requirements.txt` with the packages the module needs.
        hosts: Hosts that the module may reach by https; `*.example.org` for all below.

    Raises:
        ToolRefused: A function cannot become an API; every reason is in it, with its line.
        InvalidArgument: `category` or `name` cannot be a name.
    """
    source, module = _parse(content, file)
    marks = Marks(module)
    refusals = [
        Refusal(file, f"line {node.lineno}", "a relative import leads nowhere in a tool", "copy it")
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    refusals += [
        Refusal(file, f"line {line}", "the mark shares its line", "put it on a line of its own")
        for line in marks.not_removable(source)
    ]
    read = list(_read_all(module, marks, file, refusals))
    categories = sorted({one.category for one in read} - {""})
    if category is None and len(categories) > 1:
        named = f"a tool has one category, not {', '.join(categories)[:200]}"
        refusals.append(Refusal(file, "category", named, "choose one with --category"))
    if not read and not refusals:
        raise refusal(file, "it has no public function", "define one at module level")
    if refusals:
        raise ToolRefused(refusals)
    text = ast.get_docstring(module) or ""
    tool = make_tool(
        [one.api for one in read],
        category=category or next(iter(categories), DEFAULT_CATEGORY),
        name=name,
        description=_docstring(text).description or name,
        origin=_origin(content, file, hosts),
        code=marks.removed(source) + "".join(one.adapter for one in read),
        requirements=_requirements(requirements, file),
    )
    if tool.refusals:
        raise ToolRefused(tool.refusals)
    return tool


def _parse(content: bytes, file: str) -> tuple[str, ast.Module]:
    if len(content) > MAX_CODE_BYTES:
        raise refusal(file, f"it exceeds the limit of {MAX_CODE_BYTES} bytes", "split the module")
    try:
        source = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as exc:
        raise refusal(file, f"byte {exc.start} is not UTF-8", "save it as UTF-8") from exc
    try:
        module = ast.parse(source, filename=file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise refusal(file, f"it is not Python: {exc}", "correct the syntax") from exc
    return source if source.endswith("\n") else f"{source}\n", module


def _origin(content: bytes, file: str, hosts: Sequence[str]) -> ToolExtension:
    digest = hashlib.sha256(content).hexdigest()
    try:
        return ToolExtension(
            source="functions", origin=file, sha256=digest, hosts=tuple(h.lower() for h in hosts)
        )
    except ValidationError as exc:
        shown = ", ".join(hosts)[:200]
        reason = f"{shown!r} are not at most 32 names of hosts"
        raise refusal(file, reason, "write names such as api.example.org") from exc


def _requirements(content: bytes | None, file: str) -> str | None:
    if content is None:
        return None
    try:
        lines = parse_requirements(content)
    except ValueError as exc:
        fix = "write lines of the form name==version"
        raise ToolRefused([Refusal(file, "requirements", str(exc), fix)]) from exc
    return "".join(f"{line}\n" for line in lines)


def _read_all(
    module: ast.Module, marks: Marks, file: str, refusals: list[Refusal]
) -> Iterator[_Read]:
    functions = [node for node in module.body if isinstance(node, _Function)]
    marked = [node for node in functions if marks.of(node) is not None]
    chosen = marked or [node for node in functions if not node.name.startswith("_")]
    if len(chosen) > MAX_FUNCTIONS:
        raise refusal(file, f"more than {MAX_FUNCTIONS} functions", "split the module")
    reader = _FunctionReader(module, marks)
    for node in chosen:
        try:
            yield reader.read(node)
        except Unreadable as exc:
            where = f"{node.name}, line {exc.line or node.lineno}"
            refusals.append(Refusal(file, where, exc.reason, exc.fix))
        except RecursionError:
            where = f"{node.name}, line {node.lineno}"
            refusals.append(Refusal(file, where, "an expression is nested too deeply", "part it"))


class _FunctionReader:
    def __init__(self, module: ast.Module, marks: Marks) -> None:
        self._marks = marks
        self._hints = HintReader(module)
        self._defined = {
            node.name for node in module.body if isinstance(node, _Function | ast.ClassDef)
        }

    def read(self, node: _Function) -> _Read:
        """The API that a function becomes.

        Raises:
            Unreadable: It cannot.
        """
        function = _plain(node)
        options = self._options(function)
        name = str(options.get("name") or words_apart(function.name))
        target = python_identifier(name)
        if not target.isidentifier():
            reason = f"no Python name is left of {name[:100]!r}"
            raise Unreadable(function, reason, "use ASCII letters, digits and _")
        if target != function.name and target in self._defined:
            reason = f"the API is called as {target!r}, which this module defines as something else"
            raise Unreadable(function, reason, "rename one of them")
        text = _docstring(ast.get_docstring(function) or "")
        described = {p.arg_name: p.description or "" for p in text.params}
        hints = {a.arg: self._hints.read(a.annotation) for a in _arguments(function)}
        defaults = _defaults(function)
        api = ImportedApi(
            name=name,
            description=str(options.get("description") or text.description or _words(name)),
            parameters=tuple(
                _parameter(argument, hint, described.get(argument, ""), defaults.get(argument))
                for argument, hint in hints.items()
            ),
            template_response=self._response(function, options),
            side_effect=SideEffect(str(options["side_effect"]))
            if options.get("side_effect")
            else None,
            is_deprecated=options.get("deprecated") is True,
        )
        conversions = {argument: hint.conversion for argument, hint in hints.items()}
        return _Read(api, str(options.get("category") or ""), adapter(function, name, conversions))

    def _options(self, function: ast.FunctionDef) -> dict[str, JsonValue]:
        mark = self._marks.of(function)
        if not isinstance(mark, ast.Call):
            return {}
        if mark.args:
            raise Unreadable(mark, "the mark takes no positional arguments", "write name=...")
        options: dict[str, JsonValue] = {}
        for keyword in mark.keywords:
            kind = _OPTIONS.get(keyword.arg or "")
            value = _json_literal(keyword.value)
            if kind is None or keyword.arg is None or value is None or not isinstance(value, kind):
                reason = f"{keyword.arg or '**'} of the mark is unknown or of the wrong type"
                fix = f"use {', '.join(_OPTIONS)}, with literals"
                raise Unreadable(keyword.value, reason, fix)
            options[keyword.arg] = value
        effect = options.get("side_effect") or "read"
        if effect not in set(SideEffect):
            reason = f"side_effect {effect!r} is unknown"
            raise Unreadable(mark, reason, f"use {', '.join(SideEffect)}")
        return options

    def _response(self, function: ast.FunctionDef, options: dict[str, JsonValue]) -> JsonValue:
        if "template_response" in options:
            return options["template_response"]
        if function.returns is None:
            return None
        try:
            schema = self._hints.read(function.returns).schema
        except Unreadable:
            return None  # the answer's form is a help, not a need
        return mirror(schema) if schema and schema != {"type": "null"} else None


def _docstring(text: str) -> docstring_parser.Docstring:
    """A docstring in any of the known forms; as plain text when it is in none."""
    text = text[:MAX_TEXT_CHARS]
    try:
        return docstring_parser.parse(text)
    except docstring_parser.ParseError:
        plain = docstring_parser.Docstring()
        plain.short_description = text
        return plain


def _plain(node: _Function) -> ast.FunctionDef:
    """The function, when it can be called with named JSON values and gives one back."""
    if isinstance(node, ast.AsyncFunctionDef):
        raise Unreadable(node, "it is a coroutine, which nobody awaits", "write `def`")
    spec = node.args
    if spec.posonlyargs:
        raise Unreadable(node, "it has positional-only parameters", "remove the `/`")
    for starred, sign in ((spec.vararg, "*"), (spec.kwarg, "**")):
        if starred is not None:
            reason = f"{sign}{starred.arg} says nothing about what it takes"
            raise Unreadable(starred, reason, "name every parameter")
    if any(isinstance(child, ast.Yield | ast.YieldFrom) for child in _own_nodes(node)):
        raise Unreadable(node, "it is a generator, which JSON cannot hold", "return a list")
    identifiers: dict[str, str] = {}
    for argument in _arguments(node):
        standard = python_identifier(argument.arg)
        if not standard.isidentifier() or standard in identifiers:
            reason = f"parameter {argument.arg!r} has the standard name {standard!r}"
            other = identifiers.get(standard)
            reason += f", as has {other!r}" if other else ""
            raise Unreadable(argument, reason, "use distinct names of ASCII letters, digits and _")
        identifiers[standard] = argument.arg
    return node


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function's body without those of functions inside it."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _Function | ast.Lambda | ast.ClassDef):
            pending += ast.iter_child_nodes(node)


def _arguments(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.args, *function.args.kwonlyargs]


def _defaults(function: ast.FunctionDef) -> dict[str, ast.expr]:
    spec = function.args
    plain = spec.args[len(spec.args) - len(spec.defaults) :] if spec.defaults else []
    found = {a.arg: value for a, value in zip(plain, spec.defaults, strict=True)}
    pairs = zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    return found | {a.arg: value for a, value in pairs if value is not None}


def _parameter(
    name: str, hint: Hint, description: str, default: ast.expr | None
) -> ImportedParameter:
    schema = dict(hint.schema)
    value = None if default is None else _json_literal(default)
    if value is not None:
        schema["default"] = value
    return ImportedParameter(name, schema, default is None, hint.description or description)


def _json_literal(node: ast.expr) -> JsonValue:
    """The JSON value of a literal; `None` for everything else."""
    try:
        value: JsonValue = ast.literal_eval(node)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return json.loads(json.dumps(value))  # type: ignore[no-any-return]  # a tuple becomes a list


def _words(name: str) -> str:
    return f"{name.replace('_', ' ').strip().capitalize()}."
