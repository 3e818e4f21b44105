"""Builds the HTTP request that a call stands for, from its endpoint and arguments.

Arguments are hostile: a value can fill its place and nothing else. It never adds a path segment, a
query, a header line or another host.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import JsonValue

from services.contracts.apis import ApiDocument
from services.contracts.toolbench.names import api_identifier
from services.toolenv.egress.injection import inject
from services.toolenv.egress.policy import Injection
from services.toolenv.endpoints import EndpointParameter, HttpEndpoint

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_OF_THE_CONNECTION: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
    | {"keep-alive", "expect", "accept-encoding", "cookie"}
)
_DEFAULTS: Final = (
    ("Accept", "application/json, */*;q=0.5"),
    ("User-Agent", "toolwright"),  # many servers refuse a request that does not name its program
)
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COOKIE_SAFE: Final = "!#$%&'()*+-./:<=>?@[]^_`{|}~"  # RFC 6265, 4.1.1, without `%` escapes' own


class BadArguments(ValueError):
    """The arguments do not make a request; the text names them, for the model."""


class BadEndpoint(ValueError):
    """The endpoint cannot be called, whatever the arguments; the text says why."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """One request, ready to be sent; holds secrets and is never logged."""

    method: str
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    content: bytes = field(repr=False)
    host: str
    """`host` or `host:port` of the URL."""


def build_request(
    endpoint: HttpEndpoint,
    document: ApiDocument,
    arguments: Mapping[str, JsonValue],
    injections: Sequence[Injection] = (),
) -> OutgoingRequest:
    """The request for one call.

    Args:
        endpoint: Where it goes.
        document: Says which parameters are required.
        arguments: Named in standard form.
        injections: Credentials; they replace whatever has their place.

    Raises:
        BadArguments: An argument is missing, has no place in the request or cannot stand there.
        BadEndpoint: The endpoint is no HTTP request.
    """
    host = _check_endpoint(endpoint)
    given = _assign(endpoint, document, arguments)
    url = _fill_path(endpoint.url.partition("#")[0], given)
    url = _with_query(url, given)
    headers = _headers(endpoint, given)
    content, content_type = _content(endpoint, given)
    names = {name.lower() for name, _ in headers}
    if content_type and "content-type" not in names:
        headers.append(("Content-Type", content_type))
    headers += [(name, value) for name, value in _DEFAULTS if name.lower() not in names]
    outgoing = inject(url, headers, injections)
    return OutgoingRequest(
        endpoint.method.upper(), outgoing.url, tuple(outgoing.headers), content, host
    )


_Given = list[tuple[EndpointParameter, JsonValue]]


def _check_endpoint(endpoint: HttpEndpoint) -> str:
    method = endpoint.method.upper()
    if method not in _METHODS:
        raise BadEndpoint(f"method {method[:20]!r} is not one of {', '.join(sorted(_METHODS))}")
    try:
        parts = urlsplit(endpoint.url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise BadEndpoint(f"its address is no URL: {exc}") from exc
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise BadEndpoint("its address is not an absolute http or https URL")
    if "@" in parts.netloc or "{" in parts.netloc or "\\" in endpoint.url:
        raise BadEndpoint("its address carries a user name, or leaves its host open")
    return f"{host}:{port}" if port else host


def _assign(
    endpoint: HttpEndpoint, document: ApiDocument, arguments: Mapping[str, JsonValue]
) -> _Given:
    sources = [
        (api_identifier(parameter.argument or parameter.name), parameter)
        for parameter in endpoint.parameters
    ]
    placed = {name for name, _ in sources}
    leftover = [name for name in arguments if name not in placed]
    if leftover:
        raise BadArguments(f"the request has no place for {_listed(leftover)}")
    needed = [api_identifier(parameter.name) for parameter in document.required_parameters]
    needed += [name for name, parameter in sources if parameter.place == "path"]
    missing = [name for name in dict.fromkeys(needed) if name not in arguments]
    if missing:
        raise BadArguments(f"missing required argument {_listed(missing)}")
    return [(parameter, arguments[name]) for name, parameter in sources if name in arguments]


def _fill_path(template: str, given: _Given) -> str:
    values = {p.name: _path_value(p.name, value) for p, value in given if p.place == "path"}
    unknown = [name for name in _PLACEHOLDER.findall(template) if name not in values]
    if unknown:
        raise BadEndpoint(f"its address leaves {_listed(unknown)} open")
    url = _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)
    fixed = set(template.partition("?")[0].split("/"))
    for segment in url.partition("?")[0].split("/"):
        if segment in (".", "..") and segment not in fixed:
            raise BadArguments(f"{segment!r} cannot be part of a path; pass a name")
    return url


def _path_value(name: str, value: JsonValue) -> str:
    if value is None or value == "" or isinstance(value, dict):
        raise BadArguments(f"{name[:80]!r} is part of the path: pass a text or a number")
    items = value if isinstance(value, list) else [value]
    return ",".join(quote(_print(item), safe="") for item in items)


def _with_query(url: str, given: _Given) -> str:
    pairs: list[str] = []
    for parameter, value in given:
        if parameter.place == "query":
            pairs += _pairs(parameter, value)
    if not pairs:
        return url
    base, has_query, query = url.partition("?")
    return f"{base}?{'&'.join(([query] if has_query and query else []) + pairs)}"


def _pairs(parameter: EndpointParameter, value: JsonValue) -> Iterable[str]:
    """`name=value` texts of a query or form; nothing for null, which is to be absent."""
    name = quote(parameter.name, safe="[]")
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    printed = [quote(_print(item), safe="") for item in items if item is not None]
    if parameter.explode or not isinstance(value, list):
        return [f"{name}={text}" for text in printed]
    return [f"{name}={','.join(printed)}"] if printed else []


def _headers(endpoint: HttpEndpoint, given: _Given) -> list[tuple[str, str]]:
    fixed = [(name, value) for name, value in endpoint.headers if _is_header(name, value)]
    taken = {name.lower() for name, _ in fixed}
    own: list[tuple[str, str]] = []
    crumbs: list[str] = []
    for parameter, value in given:
        if value is None or parameter.place not in ("header", "cookie"):
            continue
        if not _FIELD_NAME.fullmatch(parameter.name):
            raise BadEndpoint(f"{parameter.name[:80]!r} is no name of a {parameter.place}")
        if parameter.place == "cookie":
            crumbs.append(f"{parameter.name}={quote(_print(value), safe=_COOKIE_SAFE)}")
        elif parameter.name.lower() in _OF_THE_CONNECTION:
            raise BadEndpoint(f"header {parameter.name!r} belongs to the connection")
        elif parameter.name.lower() not in taken:
            own.append((parameter.name, _header_value(parameter.name, value)))
    return fixed + own + ([("Cookie", "; ".join(crumbs))] if crumbs else [])


def _is_header(name: str, value: str) -> bool:
    if not _FIELD_NAME.fullmatch(name) or name.lower() in _OF_THE_CONNECTION:
        raise BadEndpoint(f"fixed header {name[:80]!r} cannot be sent")
    _header_value(name, value)
    return True


def _header_value(name: str, value: JsonValue) -> str:
    text = _joined(value)
    if not text.isascii() or not text.isprintable():
        raise BadArguments(
            f"{name[:80]!r} goes into a header, which holds printable ASCII only, no line breaks"
        )
    return text.strip()


def _content(endpoint: HttpEndpoint, given: _Given) -> tuple[bytes, str]:
    in_body = [(p, value) for p, value in given if p.place == "body"]
    in_form = [(p, value) for p, value in given if p.place == "form"]
    if in_body and in_form:
        raise BadEndpoint("it wants a JSON body and a form at once")
    if in_form:
        pairs = [pair for parameter, value in in_form for pair in _pairs(parameter, value)]
        return "&".join(pairs).encode(), "application/x-www-form-urlencoded"
    whole = [value for p, value in in_body if p.is_whole_body]
    if whole and len(in_body) > 1:
        raise BadEndpoint("it wants an argument as the whole body and others in it")
    if whole:
        return _whole_body(endpoint, whole[0])
    if in_body or (endpoint.method.upper() in _WITH_BODY and _takes_body(endpoint)):
        return _json({parameter.name: value for parameter, value in in_body}), "application/json"
    return b"", ""


def _takes_body(endpoint: HttpEndpoint) -> bool:
    return any(p.place == "body" and not p.is_whole_body for p in endpoint.parameters)


def _whole_body(endpoint: HttpEndpoint, value: JsonValue) -> tuple[bytes, str]:
    declared = next((v for n, v in endpoint.headers if n.lower() == "content-type"), "")
    if isinstance(value, str) and declared and "json" not in declared.lower():
        return value.encode(), declared
    return _json(value), "application/json"


def _json(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _print(value: JsonValue) -> str:
    """A value as web forms write it: `true`, `1` for 1.0, JSON for what has structure."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value)) if abs(value) < 1e15 else repr(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _joined(value: JsonValue) -> str:
    return ",".join(_print(item) for item in value) if isinstance(value, list) else _print(value)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:80]) for name in names[:10])
