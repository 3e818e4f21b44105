"""Resolving a host once, and checking every answer before anybody connects.

If any answer is forbidden the host is refused as a whole. Dropping the forbidden ones would connect
all the same, yet a public API never publishes a private address: a mixed answer is a rebinding
attempt or a broken zone, and either is better seen than survived.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from services.toolenv.egress.addresses import check_address, private_fix
from services.toolenv.egress.errors import EgressRefused, NameNotResolved
from services.toolenv.egress.targets import Target

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host, as text, best first. Raises OSError when there are none."""


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """What the machine's resolver says, `/etc/hosts` included."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def resolve(
    host: str,
    port: int,
    *,
    resolver: Resolver = resolve_by_system,
    timeout_s: float,
    is_private_allowed: bool = False,
) -> tuple[str, ...]:
    """Checked addresses of `host`, best first; resolved exactly once.

    Args:
        host: Canonical host, see `canonical_host`; an address is checked without resolving.
        port: TCP port, passed to the resolver.
        resolver: Where names are looked up.
        timeout_s: Seconds for the look-up.
        is_private_allowed: Whether an operator listed this host and port as private on purpose.

    Raises:
        EgressRefused: An answer is not a public address, or the name has no dot.
        NameNotResolved: There is no answer in time.
    """
    authority = Target("", host, port).authority
    addresses = _literal(host)
    if addresses is None:
        if "." not in host and not is_private_allowed:
            raise EgressRefused(
                target=host,
                rule="is a name of the local network",
                fix=f"use the full name of a public host; {private_fix(authority)}",
            )
        addresses = await _look_up(host, port, resolver, timeout_s)
    if not is_private_allowed:
        for address in addresses:
            check_address(address, host=host, authority=authority)
    return addresses


def _literal(host: str) -> tuple[str, ...] | None:
    try:
        return (str(ip_address(host)),)
    except ValueError:
        return None


async def _look_up(host: str, port: int, resolver: Resolver, timeout_s: float) -> tuple[str, ...]:
    try:
        async with asyncio.timeout(timeout_s):
            addresses = tuple(await resolver(host, port))
    except TimeoutError as exc:
        raise NameNotResolved(
            f"the name {host!r} was not resolved within {timeout_s:.3g} s"
        ) from exc
    except (OSError, UnicodeError) as exc:
        raise NameNotResolved(f"the name {host!r} does not resolve: {exc}") from exc
    if not addresses:
        raise NameNotResolved(f"the name {host!r} has no address")
    return addresses
