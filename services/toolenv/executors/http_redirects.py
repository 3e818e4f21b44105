"""Which redirects of an API are followed, and what goes along."""

from typing import Final

import httpx

from services.toolenv.egress.redaction import Redactor

STATUSES: Final = frozenset({301, 302, 303, 307, 308})


class Unfollowed(Exception):
    """A redirect that is not followed; the text says where to, without path and query."""


def redirected(request: httpx.Request, location: str, redactor: Redactor) -> httpx.URL:
    """Where a redirect leads.

    Raises:
        Unfollowed: It is not to be followed.
    """
    try:
        url = request.url.join(location)
    except (httpx.InvalidURL, ValueError) as exc:
        raise Unfollowed("a redirect to an invalid address") from exc
    place = f"a redirect to {url.scheme[:20]}://{url.host[:200]}"
    if request.method not in ("GET", "HEAD"):
        raise Unfollowed(f"{place} is not followed, because {request.method} may have an effect")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise Unfollowed(f"{place} is not followed: it must be http or https, without user name")
    if request.url.scheme == "https" and url.scheme == "http":
        raise Unfollowed(f"{place} is not followed: it leads from https to http")
    if not is_same_place(request.url, url) and redactor.is_in(str(url)):
        raise Unfollowed(f"{place} is not followed: it carries a secret to another host")
    return url


def is_same_place(before: httpx.URL, after: httpx.URL) -> bool:
    """Whether credentials may go along: same scheme, host and port."""
    return (before.scheme, before.host, _port(before)) == (after.scheme, after.host, _port(after))


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)
