"""What ToolBench's document format has no field for, under the key `x-toolwright`.

One object per tool says where the document came from; one object per API says where the API lives
and what its parameters look like. An unknown key is refused: the format is ours, and a misspelt
`auth_optional` must not pass unseen. It names credentials and never holds one.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from services.contracts.apis import MAX_NAME_CHARS, InverseCall, SideEffect
from services.contracts.base import WireModel
from services.toolenv.endpoints import (
    AuthPlacement,
    Endpoint,
    EndpointParameter,
    HttpEndpoint,
    McpEndpoint,
    ParameterPlace,
)

EXTENSION_KEY: Final = "x-toolwright"
MAX_URL_CHARS: Final = 8192
RAPIDAPI_CREDENTIAL: Final = "rapidapi"
RAPIDAPI_KEY_HEADER: Final = "X-RapidAPI-Key"
RAPIDAPI_HOST_HEADER: Final = "X-RapidAPI-Host"
_RAPIDAPI_DOMAINS: Final = ("rapidapi.com", "mashape.com")

_MAX_ENDPOINT_PARAMETERS = 256
_MAX_HEADERS = 32
_MAX_AUTH = 8
_TOKEN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$"  # noqa: S105 - an HTTP field name (RFC 9110, 5.1)
_VISIBLE = r"^[\x20-\x7e]{0,1024}$"  # what a fixed header may hold: no line can be smuggled in
_CREDENTIAL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_HOST = r"^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){1,9}$"
_MAX_HOSTS = 32
_NAME = r"^[^\x00-\x1f\x7f]{1,512}$"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_URL = re.compile(r"^https?://[^\x00-\x20\x7f\\\"<>|^`]+$", re.IGNORECASE)
_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
    | {"keep-alive", "proxy-authorization", "proxy-authenticate", "proxy-connection", "expect"}
)
"""Headers of the connection: a document that sets one could speak for somebody else."""
_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", RAPIDAPI_KEY_HEADER.lower()})
"""Headers that carry secrets: a document never holds one."""


class ParameterExtension(WireModel):
    """See `EndpointParameter`."""

    name: str = Field(pattern=_NAME)
    place: ParameterPlace
    is_whole_body: bool = False
    explode: bool = True
    argument: str = Field(default="", max_length=MAX_NAME_CHARS)


class AuthExtension(WireModel):
    """See `AuthPlacement`."""

    credential: str = Field(pattern=_CREDENTIAL)
    kind: Literal["header", "query", "cookie", "bearer", "basic"]
    name: str = Field(default="", pattern=r"^[\x21-\x7e]{0,256}$")
    prefix: str = Field(default="", pattern=r"^[\x20-\x7e]{0,64}$")

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.kind in ("header", "query", "cookie") and not self.name:
            raise ValueError(f"kind {self.kind!r} needs the name of the {self.kind}")
        if self.kind in ("header", "cookie") and not re.match(_TOKEN, self.name):
            raise ValueError(f"{self.name!r} cannot be the name of a {self.kind}")
        if self.kind == "header" and self.name.lower() in _OWN_HEADERS:
            raise ValueError(f"header {self.name!r} belongs to the connection")
        return self


class HttpExtension(WireModel):
    """See `HttpEndpoint`."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"]
    url: str = Field(max_length=MAX_URL_CHARS)
    parameters: tuple[ParameterExtension, ...] = Field((), max_length=_MAX_ENDPOINT_PARAMETERS)
    headers: dict[
        Annotated[str, Field(pattern=_TOKEN)], Annotated[str, Field(pattern=_VISIBLE)]
    ] = Field({}, max_length=_MAX_HEADERS)
    auth: tuple[AuthExtension, ...] = Field((), max_length=_MAX_AUTH)
    auth_optional: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        host = check_url(self.url)
        _check_path(self.url, self.parameters)
        _check_headers(self.headers, self.parameters)
        if not is_rapidapi(host):
            for placement in self.auth:
                if placement.credential == RAPIDAPI_CREDENTIAL:
                    raise ValueError(
                        f"credential {RAPIDAPI_CREDENTIAL!r} is only for RapidAPI's own hosts, "
                        f"not for {host!r}"
                    )
        return self


class McpExtension(WireModel):
    """See `McpEndpoint`."""

    server: str = Field(pattern=_NAME)
    tool: str = Field(pattern=_NAME)


class InverseExtension(WireModel):
    """See `InverseCall`."""

    api: str = Field(min_length=1, max_length=3 * MAX_NAME_CHARS)
    """Name of an API of the same tool, or its address."""
    arguments: dict[Annotated[str, Field(max_length=MAX_NAME_CHARS)], JsonValue] = Field(
        {}, max_length=_MAX_ENDPOINT_PARAMETERS
    )


class ApiExtension(WireModel):
    """`x-toolwright` of one API."""

    http: HttpExtension | None = None
    mcp: McpExtension | None = None
    side_effect: SideEffect | None = None
    """What the source says about side effects; the HTTP method decides when it is missing."""
    inverse: InverseExtension | None = None
    """How a call is undone."""
    deprecated: bool = False
    schemas: dict[Annotated[str, Field(max_length=MAX_NAME_CHARS)], dict[str, JsonValue]] = Field(
        {}, max_length=2 * _MAX_ENDPOINT_PARAMETERS
    )
    """JSON Schema of parameters, by their name in the document, verbatim."""

    @model_validator(mode="after")
    def _one_endpoint(self) -> Self:
        if self.http is not None and self.mcp is not None:
            raise ValueError("an API has either `http` or `mcp`, not both")
        return self

    def endpoint(self) -> Endpoint | None:
        """Where the API lives, `None` when this does not say."""
        if self.mcp is not None:
            return McpEndpoint(server=self.mcp.server, tool=self.mcp.tool)
        if self.http is None:
            return None
        return HttpEndpoint(
            method=self.http.method,
            url=self.http.url,
            parameters=tuple(
                EndpointParameter(**parameter.model_dump()) for parameter in self.http.parameters
            ),
            headers=tuple(self.http.headers.items()),
            auth=tuple(AuthPlacement(**placement.model_dump()) for placement in self.http.auth),
            is_auth_optional=self.http.auth_optional,
        )

    def to_json(self) -> dict[str, JsonValue]:
        """As written into a document: without what is not set."""
        written: dict[str, JsonValue] = self.model_dump(mode="json", exclude_defaults=True)
        return written


class ToolExtension(WireModel):
    """`x-toolwright` of one tool: where its document came from, and what its code may reach."""

    hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = Field((), max_length=_MAX_HOSTS)
    """Hosts that the code in `api.py` may reach by https, beside those of its APIs' addresses;
    `*.example.org` stands for all below `example.org`. They are given no credential."""
    source: Literal["toolbench", "openapi", "ai_plugin", "functions", "mcp"] = "toolbench"
    origin: str = Field(default="", max_length=MAX_URL_CHARS)
    """File name or URL, without user information and query."""
    version: str = Field(default="", max_length=MAX_NAME_CHARS)
    """As the source states it."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of the imported bytes, in hexadecimal digits."""


def extension_of(
    endpoint: Endpoint | None,
    *,
    side_effect: SideEffect | None = None,
    schemas: dict[str, dict[str, JsonValue]] | None = None,
    deprecated: bool = False,
    inverse: InverseCall | None = None,
) -> ApiExtension:
    """What to write under `x-toolwright` of an API; the inverse of `ApiExtension.endpoint`.

    Raises:
        pydantic.ValidationError: The endpoint breaks a rule of the format.
    """
    http = mcp = None
    if isinstance(endpoint, McpEndpoint):
        mcp = McpExtension(server=endpoint.server, tool=endpoint.tool)
    elif endpoint is not None:
        http = HttpExtension.model_validate(
            {
                "method": endpoint.method,
                "url": endpoint.url,
                "parameters": [
                    {
                        "name": parameter.name,
                        "place": parameter.place,
                        "is_whole_body": parameter.is_whole_body,
                        "explode": parameter.explode,
                        "argument": parameter.argument,
                    }
                    for parameter in endpoint.parameters
                ],
                "headers": dict(endpoint.headers),
                "auth": [
                    {
                        "credential": placement.credential,
                        "kind": placement.kind,
                        "name": placement.name,
                        "prefix": placement.prefix,
                    }
                    for placement in endpoint.auth
                ],
                "auth_optional": endpoint.is_auth_optional,
            }
        )
    return ApiExtension(
        http=http,
        mcp=mcp,
        side_effect=side_effect,
        schemas=schemas or {},
        deprecated=deprecated,
        inverse=InverseExtension(api=inverse.api.api, arguments=inverse.arguments)
        if inverse is not None
        else None,
    )


def rapidapi_endpoint(
    *, host: str, url: str, method: str, parameters: Iterable[str]
) -> HttpEndpoint | None:
    """The request that a crawled RapidAPI document stands for; `None` when it gives no URL.

    The user's RapidAPI key is attached for RapidAPI's own hosts only, whatever the document says.

    Args:
        host: The tool's `host`; the URL's own when that is not RapidAPI's.
        url: The API's `url`, `{name}` where a path parameter goes.
        method: HTTP method; `GET` when empty.
        parameters: Names, verbatim.

    Raises:
        ValueError: The URL, the method or the host is malformed.
    """
    if not url.strip():
        return None
    verb = (method or "GET").upper()
    in_url = set(_PLACEHOLDER.findall(url))
    elsewhere = "query" if verb in ("GET", "HEAD", "DELETE", "OPTIONS") else "body"
    url_host = check_url(url.strip())
    is_keyed = is_rapidapi(url_host)
    names = list(dict.fromkeys(parameters))
    asked = host.strip().lower() if is_rapidapi(host.strip().lower()) else url_host
    checked = HttpExtension.model_validate(
        {
            "method": verb,
            "url": url.strip(),
            "parameters": [
                {"name": name, "place": "path" if name in in_url else elsewhere} for name in names
            ],
            "headers": {RAPIDAPI_HOST_HEADER: asked} if is_keyed else {},
            "auth": [
                {"credential": RAPIDAPI_CREDENTIAL, "kind": "header", "name": RAPIDAPI_KEY_HEADER}
            ]
            if is_keyed
            else [],
        }
    )
    endpoint = ApiExtension(http=checked).endpoint()
    return endpoint if isinstance(endpoint, HttpEndpoint) else None


def check_url(url: str) -> str:
    """The host of an absolute HTTP URL, in lower case.

    Raises:
        ValueError: It is not one, carries a user name or password, or hides its host in a
            parameter.
    """
    if not _URL.match(url) or not url.isascii():
        raise ValueError(f"{url[:200]!r} is not an absolute http or https URL in ASCII")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"{url[:200]!r} is not a URL: {exc}") from exc
    if not host or _PLACEHOLDER.search(parts.netloc) or "%" in parts.netloc:
        raise ValueError(f"{url[:200]!r} has no fixed host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL carries a user name or password")
    return host


def credential_part(name: str) -> str:
    """A tool's or security scheme's name as part of a credential's: `<tool>.<scheme>`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:48]


def is_rapidapi(host: str) -> bool:
    """Whether a host is RapidAPI's (or, as it was once called, Mashape's)."""
    return any(host == domain or host.endswith(f".{domain}") for domain in _RAPIDAPI_DOMAINS)


def _check_path(url: str, parameters: tuple[ParameterExtension, ...]) -> None:
    wanted = set(_PLACEHOLDER.findall(url))
    given = {parameter.name for parameter in parameters if parameter.place == "path"}
    if wanted != given:
        odd = sorted(wanted ^ given)[0]
        where = "only in the URL" if odd in wanted else "not in the URL"
        raise ValueError(f"path parameter {odd!r} is {where}")


def _check_headers(headers: dict[str, str], parameters: tuple[ParameterExtension, ...]) -> None:
    for name, value in headers.items():
        if name.lower() in _OWN_HEADERS | _SECRET_HEADERS:
            raise ValueError(f"header {name!r} cannot be fixed in a document")
        # Whoever is named there is sent the key too.
        if name.lower() == RAPIDAPI_HOST_HEADER.lower() and not is_rapidapi(value.lower()):
            raise ValueError(f"{value[:100]!r} is not one of RapidAPI's own hosts")
    for parameter in parameters:
        if parameter.place not in ("header", "cookie"):
            continue
        if not re.match(_TOKEN, parameter.name):
            raise ValueError(f"{parameter.name!r} cannot be the name of a {parameter.place}")
        if parameter.place == "header" and parameter.name.lower() in _OWN_HEADERS:
            raise ValueError(f"header {parameter.name!r} belongs to the connection")
