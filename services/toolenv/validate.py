"""Checks one tool folder before it is served: the document, and that its code and address fit it.

The code is read as a syntax tree and never run or imported.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from services.contracts.apis import ApiDocument
from services.contracts.toolbench.names import (
    api_identifier,
    function_name,
    python_identifier,
    standardize,
    standardize_category,
)
from services.toolenv.catalog import (
    MAX_CODE_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_REQUIREMENTS_BYTES,
    REQUIREMENTS_FILE,
    parse_requirements,
)
from services.toolenv.documents import Refusal, ToolDocument, parse_document
from services.toolenv.endpoints import HttpEndpoint

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def validate_tool(document: Path, *, needs_code: bool = True) -> list[Refusal]:
    """Everything that is wrong with one tool; empty when it can be served.

    Args:
        document: `<Category>/<tool>.json`; the code is expected at `<tool>/api.py` beside it,
            unless every API has an address of its own.
        needs_code: Whether missing code is wrong; recorded, remote and simulated answers need none.
    """
    category, tool = document.parent.name, document.name.split(".", 1)[0]
    file = f"{category}/{document.name}"
    content = _read(document, MAX_DOCUMENT_BYTES, file)
    if isinstance(content, Refusal):
        return [content]
    parsed = parse_document(
        content,
        file=file,
        category_name=category,
        ref_category=standardize_category(category),
        tool=tool,
    )
    problems = list(parsed.refusals)
    if not tool or standardize(tool) != tool:
        fix = f"rename the file to {standardize(tool) or 'tool'}.json"
        problems.append(Refusal(file, "file", f"{tool!r} is not a standard tool name", fix))
    problems += _check_names(parsed.apis, file)
    problems += _check_addresses(parsed, file)
    folder = document.parent / tool
    problems += _check_requirements(folder / REQUIREMENTS_FILE, f"{category}/{tool}")
    has_addresses = bool(parsed.apis) and len(parsed.endpoints) == len(parsed.apis)
    if (folder / "api.py").exists() or (needs_code and not has_addresses):
        problems += _check_code(folder / "api.py", parsed.apis, f"{category}/{tool}")
    return problems


def _read(path: Path, limit_bytes: int, file: str) -> bytes | Refusal:
    try:
        if not path.is_file():
            return Refusal(file, "file", "it does not exist or is no regular file", "write it")
        with path.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except OSError as exc:
        return Refusal(file, "file", f"it cannot be read: {exc.strerror}", "check its access")
    if len(content) > limit_bytes:
        reason = f"it exceeds the limit of {limit_bytes} bytes"
        return Refusal(file, "file", reason, "split the tool")
    return content


def _check_names(apis: tuple[ApiDocument, ...], file: str) -> Iterator[Refusal]:
    """Names that a model could not use: empty ones, and two that become the same."""
    functions = Counter(function_name(api.ref.api, api.ref.tool) for api in apis)
    for api in apis:
        field = f"api {api.api_name!r}"
        shown = function_name(api.ref.api, api.ref.tool)
        if functions[shown] > 1:
            reason = f"another API is shown to models as {shown!r} too, cut to 64 characters"
            yield Refusal(file, field, reason, "give it a shorter name")
        seen: dict[str, str] = {}
        for parameter in api.required_parameters + api.optional_parameters:
            name, standard = parameter.name, api_identifier(parameter.name)
            if not python_identifier(name).isidentifier():
                reason = f"parameter {name!r} becomes {standard!r}, which Python cannot pass"
                yield Refusal(file, field, reason, "rename the parameter")
            elif standard in seen:
                reason = f"parameters {seen[standard]!r} and {name!r} both become {standard!r}"
                yield Refusal(file, field, reason, "rename one of them")
            seen[standard] = name


def _check_addresses(parsed: ToolDocument, file: str) -> Iterator[Refusal]:
    """Schemas that are none, and arguments that a request would leave out or wait for."""
    for api in parsed.apis:
        field = f"api {api.api_name!r}"
        declared = api.required_parameters + api.optional_parameters
        for parameter in declared:
            try:
                Draft202012Validator.check_schema(parameter.json_schema or {})
            except SchemaError as exc:
                reason = f"the schema of {parameter.name!r} is wrong: {exc.message[:200]}"
                yield Refusal(file, field, reason, "correct it")
        endpoint = parsed.endpoints.get(api.ref)
        if not isinstance(endpoint, HttpEndpoint):
            continue
        names = {api_identifier(parameter.name): parameter.name for parameter in declared}
        placed = {api_identifier(one.argument or one.name): one.name for one in endpoint.parameters}
        for name in sorted(names.keys() ^ placed.keys()):
            if name in names:
                reason, fix = f"parameter {names[name]!r} has no place in the request", "place it"
            else:
                reason = f"{placed[name]!r} in the request is filled from no parameter"
                fix = "add the parameter"
            yield Refusal(file, field, reason, fix)


def _check_requirements(path: Path, folder: str) -> Iterator[Refusal]:
    if not path.exists():
        return
    file = f"{folder}/{REQUIREMENTS_FILE}"
    content = _read(path, MAX_REQUIREMENTS_BYTES, file)
    if isinstance(content, Refusal):
        yield content
        return
    try:
        parse_requirements(content)
    except ValueError as exc:
        yield Refusal(file, "file", str(exc), "write lines of the form name==version")


def _check_code(path: Path, apis: tuple[ApiDocument, ...], folder: str) -> Iterator[Refusal]:
    file = f"{folder}/api.py"
    content = _read(path, MAX_CODE_BYTES, file)
    if isinstance(content, Refusal):
        yield content
        return
    try:
        tree = ast.parse(content, filename=file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        yield Refusal(file, "file", f"it is not Python: {exc}", "correct the syntax")
        return
    functions = {node.name: node for node in tree.body if isinstance(node, _Function)}
    for api in apis:
        name = python_identifier(api.ref.api)
        function = functions.get(name)
        if function is None:
            yield Refusal(
                file,
                name,
                f"no function at module level for API {api.api_name!r}",
                f"define {name}({', '.join(_identifiers(api))})",
            )
        else:
            yield from _check_function(function, api, file)


def _check_function(function: _Function, api: ApiDocument, file: str) -> Iterator[Refusal]:
    def refuse(reason: str, fix: str) -> Refusal:
        return Refusal(file, f"{function.name}, line {function.lineno}", reason, fix)

    if isinstance(function, ast.AsyncFunctionDef):
        yield refuse("it is a coroutine, which nobody awaits", "write `def`")
    spec = function.args
    if spec.posonlyargs:
        yield refuse("it has positional-only parameters", "remove the `/`")
    with_default = _with_default(spec)
    named = [argument.arg for argument in spec.args + spec.kwonlyargs]
    required = {python_identifier(parameter.name) for parameter in api.required_parameters}
    for name in _identifiers(api):
        if name not in named:
            if spec.kwarg is None:
                yield refuse(f"the document's parameter {name!r} is missing", "add it")
        elif name not in required and name not in with_default:
            yield refuse(f"optional parameter {name!r} has no default", "give it one")
    for name in named:
        if name not in _identifiers(api) and name not in with_default:
            reason = f"parameter {name!r} has no default and is not in the document"
            yield refuse(reason, "add it to the document or give it a default")


def _with_default(spec: ast.arguments) -> set[str]:
    plain = spec.args[len(spec.args) - len(spec.defaults) :] if spec.defaults else []
    keyword_only = [
        argument
        for argument, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
        if default is not None
    ]
    return {argument.arg for argument in plain + keyword_only}


def _identifiers(api: ApiDocument) -> list[str]:
    return [python_identifier(p.name) for p in api.required_parameters + api.optional_parameters]
