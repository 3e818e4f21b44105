"""Imports OpenAPI 3.0 and 3.1 and Swagger 2.0 documents: every operation becomes one API.

A document is checked against the published schema of its version (openapi-spec-validator). Its
second pass, which follows references, is not used: it reads local files and addresses that a
hostile document names. References are resolved by `schemas.References`, within the document only.
What cannot be imported is refused operation by operation, with its place in the document.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError as SchemaViolation
from jsonschema.exceptions import best_match
from jsonschema_specifications import REGISTRY
from openapi_spec_validator.schemas import (
    openapi_v2_schema_validator,
    openapi_v30_schema_validator,
    openapi_v31_schema_validator,
)
from pydantic import JsonValue
from referencing.jsonschema import DRAFT202012

from services.toolenv.documents import Refusal
from services.toolenv.endpoints import AuthPlacement
from services.toolenv.extension import MAX_URL_CHARS, ToolExtension, check_url
from services.toolenv.importers.imported import (
    ImportedApi,
    ImportedTool,
    ToolRefused,
    make_tool,
    tool_name,
)
from services.toolenv.importers.operations import METHODS, OperationReader
from services.toolenv.importers.schemas import References, Unsupported, pointer
from services.toolenv.importers.structured import load_object, refusal
from services.toolenv.importers.swagger import to_openapi3

DEFAULT_CATEGORY: Final = "Customized"
MAX_OPERATIONS: Final = 1000
_MAX_VIOLATIONS = 50
_NOT_CALLED = ("webhooks",)
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_Object = dict[str, JsonValue]


class _SchemaValidator(Protocol):
    def iter_errors(self, instance: object) -> Iterable[SchemaViolation]: ...


class _Violations(NamedTuple):
    document: list[Refusal]
    operations: dict[tuple[str, str], Refusal]
    """By path and method; an empty method stands for all of the path."""


def import_openapi(
    content: bytes,
    *,
    file: str,
    category: str | None = None,
    name: str | None = None,
    server_url: str | None = None,
    document_url: str | None = None,
    source: ToolExtension | None = None,
    description: str | None = None,
    default_auth: tuple[AuthPlacement, ...] = (),
) -> ImportedTool:
    """Read an OpenAPI or Swagger document, in JSON or YAML.

    Args:
        content: The document.
        file: Its name in refusals.
        category: Category of the tool, `Customized` by default.
        name: Name of the tool, the document's title by default.
        server_url: Absolute URL used instead of the document's servers.
        document_url: Where the document was fetched from; relative server URLs start there.
        source: What to note as the origin, instead of this document.
        description: Description of the tool, the document's by default.
        default_auth: Attached where the document does not speak of security at all.

    Returns:
        The tool with at least one API; `refusals` names every operation that was left out.

    Raises:
        ToolRefused: The document is unusable as a whole; every reason is in it.
        InvalidArgument: `category`, `name` or the title cannot be a name.
    """
    document = load_object(content, file=file)
    violations = _validate(document, file)
    if violations.document:
        raise ToolRefused(violations.document)
    if "swagger" in document:
        document = to_openapi3(document)
    info = document.get("info")
    about = info if isinstance(info, dict) else {}
    title = name or _text(about, "title")
    reader = OperationReader(
        references=References(document),
        document=document,
        servers=lambda servers, where: _server(servers, where, server_url, document_url),
        credential_prefix=tool_name(title),
        default_auth=default_auth,
    )
    refusals: list[Refusal] = []
    apis = list(_apis(document, reader, violations, file, refusals))
    refusals += [
        Refusal(file, pointer(key), "calls from outside are not received", "nothing to mend")
        for key in _NOT_CALLED
        if document.get(key)
    ]
    origin = source or ToolExtension(
        source="openapi",
        origin=public_url(document_url) if document_url else file,
        version=_text(about, "version")[:100],
        sha256=hashlib.sha256(content).hexdigest(),
    )
    tool = make_tool(
        apis,
        category=category or DEFAULT_CATEGORY,
        name=title,
        description=description or _text(about, "description") or _text(about, "summary") or title,
        origin=origin,
        refusals=refusals,
    )
    if not tool.document["api_list"]:
        none = Refusal(file, pointer("paths"), "no operation can be imported", "see the others")
        raise ToolRefused([*tool.refusals, none])
    return tool


def _validate(document: _Object, file: str) -> _Violations:
    found = _Violations([], {})
    for number, violation in enumerate(_validator(document, file).iter_errors(document)):
        if number >= _MAX_VIOLATIONS:
            break
        deepest = best_match([violation]) or violation
        place = list(deepest.absolute_path)
        problem = Refusal(
            file, pointer(*place), _shortened(deepest), "see the OpenAPI specification"
        )
        if len(place) >= 2 and place[0] == "paths":
            method = str(place[2]) if len(place) > 2 and place[2] in METHODS else ""
            found.operations.setdefault((str(place[1]), method), problem)
        else:
            found.document.append(problem)
    return found


def _validator(document: _Object, file: str) -> _SchemaValidator:
    version = document.get("openapi", document.get("swagger"))
    validators: dict[str, _SchemaValidator] = {
        "2.0": openapi_v2_schema_validator,
        "3.0": openapi_v30_schema_validator,
        "3.1": _validator_31(),
    }
    key = ".".join(version.split(".")[:2]) if isinstance(version, str) else ""
    if key not in validators or ("swagger" in document) is not (key == "2.0"):
        raise refusal(
            file,
            f"version {str(version)[:40]!r} is not supported",
            'write `openapi: "3.0.x"` or `"3.1.x"`, or `swagger: "2.0"`',
        )
    return validators[key]


@functools.cache
def _validator_31() -> _SchemaValidator:
    """openapi-spec-validator's schema of 3.1, reached through a reference.

    Used as the root, jsonschema reads all of it again for every schema in the document: 18,000
    parameters took 69 s instead of 14 s.
    """
    schema = openapi_v31_schema_validator.schema
    registry = REGISTRY.with_resource(schema["$id"], DRAFT202012.create_resource(schema)).crawl()
    validator: _SchemaValidator = Draft202012Validator({"$ref": schema["$id"]}, registry=registry)
    return validator


def _shortened(violation: SchemaViolation) -> str:
    """The message; a value that is quoted in full would fill the screen."""
    message = " ".join(violation.message.split())
    return message if len(message) <= 200 else f"...{message[-200:]}"


def _apis(
    document: _Object,
    reader: OperationReader,
    violations: _Violations,
    file: str,
    refusals: list[Refusal],
) -> Iterator[ImportedApi]:
    count = 0
    for path, method, where in _operations(document, reader, file, refusals):
        count += 1
        if count > MAX_OPERATIONS:
            reason = f"more than {MAX_OPERATIONS} operations in one tool"
            raise refusal(file, reason, "split the document")
        problem = violations.operations.get((path, method)) or violations.operations.get((path, ""))
        if problem is not None:
            refusals.append(problem)
            continue
        try:
            read = reader.read(path, method, where)
        except Unsupported as exc:
            refusals.append(Refusal(file, exc.pointer, exc.reason, exc.fix))
        else:
            refusals += [Refusal(file, o.pointer, o.reason, o.fix) for o in read.left_out]
            yield read.api


def _operations(
    document: _Object, reader: OperationReader, file: str, refusals: list[Refusal]
) -> Iterator[tuple[str, str, str]]:
    paths = document.get("paths")
    for path in paths if isinstance(paths, dict) else {}:
        if path.startswith("x-"):
            continue
        where = pointer("paths", path)
        try:
            methods = reader.methods_of(path, where)
        except Unsupported as exc:
            refusals.append(Refusal(file, exc.pointer, exc.reason, exc.fix))
            continue
        for method in methods:
            yield path, method, f"{where}/{method}"


def _server(
    servers: JsonValue, where: str, server_url: str | None, document_url: str | None
) -> str:
    """The absolute URL of the first server."""
    first: JsonValue = servers[0] if isinstance(servers, list) and servers else {"url": "/"}
    url = server_url or _with_defaults(first, where)
    if document_url is not None and not urlsplit(url).netloc:
        url = urljoin(document_url, url)
    try:
        check_url(url)
        parts = urlsplit(url)
    except ValueError as exc:
        fix = "give the absolute URL of the server with --server-url"
        raise Unsupported(where, f"server: {exc}", fix) from exc
    if parts.query or parts.fragment:
        reason = f"server {url[:200]!r} has a query or fragment"
        raise Unsupported(where, reason, "give another with --server-url")
    return url.rstrip("/")


def _with_defaults(server: JsonValue, where: str) -> str:
    if not isinstance(server, dict) or not isinstance(server.get("url"), str):
        raise Unsupported(where, "the server has no URL", "write one")
    url = str(server["url"])
    if len(url) > MAX_URL_CHARS:
        raise Unsupported(where, f"a server URL of {len(url)} characters", "write a shorter one")
    variables = server.get("variables")
    defaults: dict[str, str] = {}
    for name, variable in (variables if isinstance(variables, dict) else {}).items():
        default = variable.get("default") if isinstance(variable, dict) else None
        if not isinstance(default, str | int):
            raise Unsupported(where, f"server variable {name[:100]!r} has no default", "add one")
        defaults[name] = str(default)
    return _filled(url, defaults, where)


def _filled(url: str, defaults: dict[str, str], where: str) -> str:
    """The URL with its variables replaced; what stands in a default stays as it is.

    Otherwise defaults that name each other would multiply into any number of bytes.
    """
    if any(len(default) > MAX_URL_CHARS for default in defaults.values()):
        raise Unsupported(where, "a server variable's default is too long", "shorten it")
    return _VARIABLE.sub(lambda match: defaults.get(match[1], match[0]), url)


def _text(holder: _Object, key: str) -> str:
    value = holder.get(key)
    return value.strip() if isinstance(value, str) else ""


def public_url(url: str) -> str:
    """A URL without user information, query and fragment, where secrets may stand."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
