"""What a browser may do to a gateway on a person's own machine.

`/stream` accepts any content type, so a foreign page could post to it without a preflight. A
browser always names its origin on such requests: a foreign origin is refused, and so is the
gateway's own under a host name that somebody else's DNS may have bound to a loopback address; that
name is refused on loopback without an origin too, because a page may read what it gets there.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.contracts.errors import Problem
from services.kit.app import problem_response
from services.kit.browsers import is_local_name, is_rebound, split


class SameOriginMiddleware:
    """Refuses requests of web pages that are neither the gateway's own nor allowed by setting."""

    def __init__(self, app: ASGIApp, *, allowed_origins: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed_origins)
        self._hosts = frozenset(split(origin).netloc.lower() for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; see the class."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin, host = headers.get("origin"), headers.get("host", "")
            # A page that reads what it loaded from "its own" host names no origin.
            if origin is None and is_rebound(scope, host) and host.lower() not in self._hosts:
                origin = f"{scope.get('scheme', 'http')}://{host}"
            if origin is not None and not self._is_allowed(origin, host):
                await problem_response(_refusal(origin))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        return origin in self._allowed or (
            _is_own(origin, host) and is_local_name(split(origin).hostname or "")
        )


def _is_own(origin: str, host: str) -> bool:
    netloc = split(origin).netloc
    return bool(netloc) and netloc.lower() == host.lower()


def _refusal(origin: str) -> Problem:
    detail = (
        f"pages of {origin[:200]!r} may not call this gateway; "
        "name that origin in GATEWAY_ALLOWED_ORIGINS if they should"
    )
    return Problem(code="permission_denied", title="Forbidden origin", status=403, detail=detail)
