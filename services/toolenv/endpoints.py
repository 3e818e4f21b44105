"""Where an API lives outside: the HTTP request or MCP tool that a catalogue entry stands for.

ToolBench documents carry a URL and a RapidAPI host. Every other source (OpenAPI, plugin manifests,
MCP) is imported into the same document format, with what ToolBench has no field for under
`x-toolwright`. None of it ever holds a secret: `AuthPlacement` names a credential.
"""

from dataclasses import dataclass
from typing import Literal

ParameterPlace = Literal["path", "query", "header", "cookie", "body", "form"]
"""`body` is a key of the JSON object that is sent; `form` one of a URL-encoded body."""


@dataclass(frozen=True, slots=True)
class EndpointParameter:
    """Where one argument goes in the request."""

    name: str
    """Verbatim, as the upstream expects it."""
    place: ParameterPlace
    is_whole_body: bool = False
    """The argument is the JSON body itself instead of a key of it; for place `body` only."""
    explode: bool = True
    """Whether a list in a query is sent as repeated keys (else joined by commas)."""
    argument: str = ""
    """The document's parameter that it is filled from, verbatim; the one named `name` if empty."""


@dataclass(frozen=True, slots=True)
class AuthPlacement:
    """How a credential is attached to a request."""

    credential: str
    """Name under which the credential store knows it, e.g. `rapidapi`."""
    kind: Literal["header", "query", "cookie", "bearer", "basic"]
    name: str = ""
    """Header, query key or cookie; unused by `bearer` and `basic`."""
    prefix: str = ""
    """Put in front of the secret, e.g. `Token `."""


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """One HTTP request, with the arguments left open."""

    method: str
    url: str
    """Absolute, `https` or `http`; `{name}` stands for a path parameter."""
    parameters: tuple[EndpointParameter, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """Fixed and public, e.g. `X-RapidAPI-Host`."""
    auth: tuple[AuthPlacement, ...] = ()
    is_auth_optional: bool = False
    """Whether the call may be sent without the credential."""


@dataclass(frozen=True, slots=True)
class McpEndpoint:
    """One tool of an MCP server."""

    server: str
    """Name of the server among the registered ones."""
    tool: str
    """Verbatim name of the tool on that server."""


Endpoint = HttpEndpoint | McpEndpoint
