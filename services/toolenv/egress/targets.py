"""Reading the URL of a request strictly: one spelling per host, nothing that parsers differ on."""

from __future__ import annotations

import re
from collections.abc import Collection, Container
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import httpx

from services.toolenv.egress.errors import EgressRefused

MAX_URL_CHARS = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_HOST_CHARS = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# The URL standard reads a last label of this kind as part of an IPv4 address in decimal, octal or
# hexadecimal, with 1 to 4 parts: 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
BRACES = {ord("{"): "%7B", ord("}"): "%7D"}
_SUSPECT = re.compile(r"[\x00-\x20\x7f\\]")


class Target(NamedTuple):
    """Where a request goes: lower-case ASCII host or canonical address, explicit port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host:port`, the form in which hosts are listed as private on purpose."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(url: str | httpx.URL, *, schemes: Collection[str] = ("https",)) -> Target:
    """Scheme, host and port of a URL, read by the parser that also sends the request.

    Raises:
        EgressRefused: The URL is malformed, has user information, or spells its host in a way that
            another program could read differently.
    """
    parsed = _parse(url)
    scheme = parsed.scheme
    if scheme not in schemes:
        allowed = " or ".join(sorted(schemes))
        raise EgressRefused(
            target=f"{scheme}://{parsed.host}",
            rule=f"does not use {allowed}",
            fix=f"write {allowed}:// in the URL",
        )
    if parsed.userinfo:
        raise EgressRefused(
            target=parsed.host,
            rule="has user information in its URL",
            fix="send credentials in a header",
        )
    port = parsed.port if parsed.port is not None else DEFAULT_PORTS.get(scheme, 0)
    if not 1 <= port <= 65535:
        raise EgressRefused(
            target=f"{parsed.host}:{port}", rule="has no usable port", fix="use 443"
        )
    return Target(scheme, canonical_host(parsed.raw_host.decode("ascii")), port)


def is_in_clear(url: str, allowed: Container[str]) -> bool:
    """Whether what is sent to a URL can be read on the way.

    Args:
        url: May hold path parameters in braces.
        allowed: `host:port` pairs where that is wanted.
    """
    try:
        target = parse_target(url.translate(BRACES), schemes=("http", "https"))
    except EgressRefused:
        return False  # nothing will be sent there at all
    return target.scheme == "http" and target.authority not in allowed


def _parse(url: str | httpx.URL) -> httpx.URL:
    text = str(url)
    if len(text) > MAX_URL_CHARS:
        raise EgressRefused(
            target=text[:80],
            rule=f"has a URL of {len(text)} characters, more than {MAX_URL_CHARS}",
            fix="send long values in the body",
        )
    if _SUSPECT.search(text):
        raise EgressRefused(
            target=_without_query(text),
            rule="has a blank, backslash or control character in its URL",
            fix="percent-encode it",
        )
    try:
        parsed = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as exc:
        raise EgressRefused(
            target=_without_query(text), rule=f"is no valid URL ({exc})", fix="correct the URL"
        ) from exc
    if not parsed.host:
        raise EgressRefused(
            target=_without_query(text), rule="names no host", fix="write an absolute URL"
        )
    return parsed


def canonical_host(host: str) -> str:
    """The one spelling of a host: lower-case ASCII name, or canonical IP address.

    Raises:
        EgressRefused: Another spelling of an address, a trailing dot, a zone id, a name with no
            dot, or no host name at all.
    """
    host = host.lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if ":" in host:
        return _canonical_v6(host)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1] or labels[-2 if len(labels) > 1 else -1]):
        return _canonical_v4(host)
    if not labels[-1]:
        raise EgressRefused(
            target=host, rule="ends in a dot", fix="write the host without the last dot"
        )
    if len(host) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise EgressRefused(target=host, rule="is no host name", fix="correct the host")
    return host


def _canonical_v4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except ValueError as exc:
        raise EgressRefused(
            target=host,
            rule="spells an IPv4 address in an unusual way",
            fix="use the host name of the API",
        ) from exc


def _canonical_v6(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError as exc:
        raise EgressRefused(target=host, rule="is no IPv6 address", fix="correct it") from exc
    if address.scope_id is not None:
        raise EgressRefused(target=host, rule="carries a zone id", fix="remove it")
    return str(address)


def _without_query(url: str) -> str:
    return url.split("?", 1)[0].split("#", 1)[0]
