"""Which addresses a tool may reach: those of the public internet and nothing else.

The networks are written down here instead of asking `ipaddress.is_global`, whose answers changed
between patch releases of Python. Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries
(RFC 6890 and successors); cloud metadata addresses from the providers' documentation.
"""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

from services.toolenv.egress.errors import EgressRefused

IpAddress = IPv4Address | IPv6Address

_FORBIDDEN_V4 = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "is unspecified"),
        ("10.0.0.0/8", "is private"),
        ("100.64.0.0/10", "is shared carrier-grade NAT space"),
        ("127.0.0.0/8", "is loopback"),
        ("169.254.0.0/16", "is link-local, where cloud metadata lives"),
        ("172.16.0.0/12", "is private"),
        ("192.0.0.0/24", "is reserved for protocol assignments"),
        ("192.0.2.0/24", "is documentation space"),
        ("192.88.99.0/24", "is a 6to4 relay"),
        ("192.168.0.0/16", "is private"),
        ("198.18.0.0/15", "is benchmarking space"),
        ("198.51.100.0/24", "is documentation space"),
        ("203.0.113.0/24", "is documentation space"),
        ("224.0.0.0/4", "is multicast"),
        ("240.0.0.0/4", "is reserved"),
        ("168.63.129.16/32", "is a cloud platform's metadata service"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")  # the only part of IPv6 that is handed out (RFC 4291, 2.4)
_FORBIDDEN_V6 = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/32", "is Teredo and embeds an IPv4 address"),
        ("2001::/23", "is reserved for protocol assignments"),
        ("2001:db8::/32", "is documentation space"),
        ("2002::/16", "is 6to4 and embeds an IPv4 address"),
        ("3fff::/20", "is documentation space"),
        ("::/128", "is unspecified"),
        ("::1/128", "is loopback"),
        ("::ffff:0:0/96", "is an IPv4 address in IPv6 clothes"),
        ("::ffff:0:0:0/96", "is a translated IPv4 address"),
        ("64:ff9b::/96", "is NAT64 and embeds an IPv4 address"),
        ("64:ff9b:1::/48", "is local NAT64 and embeds an IPv4 address"),
        ("fc00::/7", "is private (unique local)"),
        ("fe80::/10", "is link-local"),
        ("fec0::/10", "is site-local"),
        ("ff00::/8", "is multicast"),
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # upper half of an interface id that embeds IPv4 (RFC 5214)
_FIX = "only public addresses are allowed"


def forbidden_reason(address: IpAddress) -> str | None:
    """Why an address is off limits, as a clause after its name; None when it is public."""
    if isinstance(address, IPv4Address):
        return _reason(address, _FORBIDDEN_V4)
    if address.scope_id is not None:
        return "carries a zone id"
    reason = _reason(address, _FORBIDDEN_V6)
    if reason is None and address not in _GLOBAL_V6:
        reason = "is not globally routable"
    if reason is None and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        reason = "is ISATAP and embeds an IPv4 address"
    return reason


def check_address(address: IpAddress | str, *, host: str = "", authority: str = "") -> None:
    """Return if the address is globally routable.

    Args:
        address: The address, or its canonical text.
        host: Name under which it was found, for the error.
        authority: `host:port` by which an operator could allow it, for the error.

    Raises:
        EgressRefused: It is not, or the text is no address.
    """
    if isinstance(address, str):
        try:
            address = ip_address(text := address)
        except ValueError as exc:
            raise EgressRefused(target=text, rule="is no IP address", fix=_FIX) from exc
    reason = forbidden_reason(address)
    if reason is not None:
        shown = f"{host} ({address})" if host and host != str(address) else str(address)
        # A cloud's metadata service is link-local: nobody should be told how to open the way to it.
        is_offered = authority and not address.is_link_local
        fix = f"{_FIX}; {private_fix(authority)}" if is_offered else _FIX
        raise EgressRefused(target=shown, rule=reason, fix=fix)


def private_fix(authority: str) -> str:
    """What an operator does about a refused `host:port` of their own."""
    return f"if this host is your own, allow it with TOOLENV_ALLOW_PRIVATE={authority}"


def _reason(
    address: IpAddress,
    table: tuple[tuple[IPv4Network, str], ...] | tuple[tuple[IPv6Network, str], ...],
) -> str | None:
    for network, reason in table:
        if address in network:
            return reason
    return None
