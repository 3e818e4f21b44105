"""Keeps web pages away from services on a person's own machine.

A page of any site may post to `http://127.0.0.1:8002` without asking first, as long as it claims to
send text; bodies are parsed whatever their type, so the call would run. A site may also bind its
own name to a loopback address (DNS rebinding) and read what it gets: no origin is named then, but
the request's `Host` is that site's.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.contracts.errors import Problem
from services.kit.app import problem_response


class NoBrowsersMiddleware:
    """Refuses what web pages send; for services that only programs call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; see the class."""
        if scope["type"] == "http":
            detail = _objection(scope, Headers(scope=scope))
            if detail:
                problem = Problem(
                    code="permission_denied", title="Forbidden", status=403, detail=detail
                )
                await problem_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _objection(scope: Scope, headers: Headers) -> str:
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None:
        return f"pages of {origin[:200]!r} may not call this service; call the gateway instead"
    if is_rebound(scope, host):
        return f"{host[:200]!r} is not a name of this machine; call 127.0.0.1 or localhost"
    return ""


def is_rebound(scope: Mapping[str, object], host: str) -> bool:
    """Whether a request reached a loopback address under a name that public DNS may hold.

    Args:
        scope: The ASGI scope; its `server` is the address that the connection arrived at.
        host: The request's `Host`.
    """
    server = scope.get("server")
    if not isinstance(server, tuple | list) or not server or not _is_loopback(str(server[0])):
        return False
    return bool(host) and not is_local_name(split(f"http://{host}").hostname or "")


def is_local_name(name: str) -> bool:
    """Whether no public DNS server can decide where a host leads.

    True for addresses, `localhost` and names without a dot (a container's, say).
    """
    try:
        ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(".localhost")
    return True


def split(url: str) -> SplitResult:
    """The parts of a URL, all empty when it cannot be read."""
    try:
        return urlsplit(url)
    except ValueError:  # a broken IPv6 address
        return urlsplit("")


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
