"""Following redirects of a guarded client: every hop is checked, secrets stay with their host."""

from __future__ import annotations

from collections.abc import Callable, Collection

import httpx

from services.toolenv.egress.errors import EgressRefused
from services.toolenv.egress.redaction import Redactor
from services.toolenv.egress.targets import Target, parse_target

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ALWAYS_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
_BODY_HEADERS = ("content-length", "content-type", "content-encoding", "transfer-encoding")


async def follow(
    client: httpx.AsyncClient,
    request: httpx.Request,
    *,
    is_allowed: Callable[[Target], bool],
    secret_headers: Collection[str] = (),
    secrets: Redactor | None = None,
    max_redirects: int = MAX_REDIRECTS,
) -> httpx.Response:
    """Send a request and follow redirects as a browser would, within the rules.

    Args:
        client: Built on `GuardedTransport`, which checks the addresses of each hop.
        request: The first request; sent even if `is_allowed` was not asked before.
        is_allowed: The tool's allow-list, asked for every hop, the first included.
        secret_headers: Names dropped, besides the usual ones, when host, port or scheme changes.
        secrets: Refuses a redirect that carries one of them to another host.
        max_redirects: Hops after the first request.

    Returns:
        The final response, unread (`stream=True`); the caller closes it.

    Raises:
        EgressRefused: A hop leads outside the allow-list, downgrades to http, or there are too
            many.
        httpx.RequestError: As from the client.
    """
    dropped = _ALWAYS_SECRET | {name.lower() for name in secret_headers}
    target = _checked(request.url, is_allowed)
    for _ in range(max_redirects + 1):
        response = await client.send(request, stream=True, follow_redirects=False)
        location = response.headers.get("location")
        if response.status_code not in _REDIRECTS or location is None:
            return response
        await response.aclose()
        following = _joined(request.url, location)
        next_target = _checked(following, is_allowed)
        if next_target != target:
            _check_change(target, next_target, location, secrets)
        request = _next_request(
            client, request, following, response.status_code,
            dropped=dropped if next_target != target else frozenset(),
        )  # fmt: skip
        target = next_target
    raise EgressRefused(
        target=target.host,
        rule=f"redirects more than {max_redirects} times",
        fix="call the final address",
    )


def _joined(base: httpx.URL, location: str) -> httpx.URL:
    try:
        return base.join(location)
    except (httpx.InvalidURL, ValueError) as exc:
        raise EgressRefused(
            target=base.host, rule="redirects to an invalid URL", fix="report it to the API"
        ) from exc


def _checked(url: httpx.URL, is_allowed: Callable[[Target], bool]) -> Target:
    target = parse_target(url, schemes=("http", "https"))
    if not is_allowed(target):
        raise EgressRefused(
            target=target.authority,
            rule="is not on the tool's list of hosts",
            fix="add the host to the tool's document",
        )
    return target


def _check_change(before: Target, after: Target, location: str, secrets: Redactor | None) -> None:
    if before.scheme == "https" and after.scheme != "https":
        raise EgressRefused(
            target=after.host, rule="is a redirect from https to http", fix="call it by https"
        )
    if secrets is not None and secrets.is_in(location):
        raise EgressRefused(
            target=after.host,
            rule="is a redirect that carries a secret to another host",
            fix="report it to the API",
        )


def _next_request(
    client: httpx.AsyncClient,
    request: httpx.Request,
    url: httpx.URL,
    status: int,
    *,
    dropped: frozenset[str],
) -> httpx.Request:
    """The request of the next hop (RFC 9110, 15.4): some statuses turn it into a GET."""
    is_rewritten = status == 303 or (status in (301, 302) and request.method == "POST")
    method = "GET" if is_rewritten and request.method != "HEAD" else request.method
    headers = httpx.Headers(request.headers)
    lost = {*dropped, "host", *(_BODY_HEADERS if method != request.method else ())}
    for name in lost:
        headers.pop(name, None)
    content = None if method != request.method else request.content
    return client.build_request(
        method, url, headers=headers, content=content, extensions=request.extensions
    )
