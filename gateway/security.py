"""What a browser may do to a gateway on a person's own machine.

`/stream` accepts any content type, so a foreign page could post to it without a preflight. A
browser always names its origin on such requests: a foreign origin is refused, and so is a host name
that was bound to a loopback address by somebody else's DNS.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

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
        return origin in self._allowed or urlsplit(origin).netloc == host


def _refusal(origin: str) -> Problem:
    detail = f"pages of {origin[:200]!r} may not call this gateway; see GATEWAY_ALLOWED_ORIGINS"
    return Problem(code="permission_denied", title="Forbidden origin", status=403, detail=detail)
