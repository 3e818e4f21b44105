"""What a browser may do to a gateway on a person's own machine.

`/stream` accepts any content type, so a foreign page could post to it without a preflight. A
browser always names its origin on such requests: a foreign origin is refused, and so is the
gateway's own under a host name that somebody else's DNS may have bound to a loopback address.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.contracts.errors import Problem
from services.kit.app import problem_response


class SameOriginMiddleware:
    """Refuses requests of web pages that are neither the gateway's own nor allowed by setting."""

    def __init__(self, app: ASGIApp, *, allowed_origins: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; see the class."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._is_allowed(origin, headers.get("host", "")):
                await problem_response(_refusal(origin))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        return origin in self._allowed or (_is_own(origin, host) and _is_local_name(origin))


def _is_own(origin: str, host: str) -> bool:
    netloc = _split(origin).netloc
    return bool(netloc) and netloc.lower() == host.lower()


def _is_local_name(origin: str) -> bool:
    """Whether no public DNS server can decide where the origin's host leads.

    True for addresses, `localhost` and names without a dot (a container's, say).
    """
    name = _split(origin).hostname or ""
    try:
        ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(".localhost")
    return True


def _split(origin: str) -> SplitResult:
    try:
        return urlsplit(origin)
    except ValueError:  # a broken IPv6 address
        return urlsplit("")


def _refusal(origin: str) -> Problem:
    detail = (
        f"pages of {origin[:200]!r} may not call this gateway; "
        "name that origin in GATEWAY_ALLOWED_ORIGINS if they should"
    )
    return Problem(code="permission_denied", title="Forbidden origin", status=403, detail=detail)
