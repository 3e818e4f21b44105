"""Puts credentials into a request, in place of whatever the tool wrote there."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

from services.toolenv.egress.policy import Injection

Headers = list[tuple[str, str]]


class Outgoing(NamedTuple):
    """What is sent; holds secrets and must not be logged."""

    url: str
    headers: Headers


def inject(url: str, headers: Headers, injections: Sequence[Injection]) -> Outgoing:
    """The request with every injection applied; the inputs stay as they are."""
    for injection in injections:
        value = (
            None
            if injection.secret is None
            else injection.prefix + injection.secret.get_secret_value()
        )
        if injection.kind == "query":
            url = _with_query(url, injection.name, value)
        elif injection.kind == "cookie":
            headers = _with_cookie(headers, injection.name, value)
        else:
            name, text = _header_of(injection, value)
            headers = [(key, old) for key, old in headers if key.lower() != name.lower()]
            headers += [(name, text)] if text is not None else []
    return Outgoing(url, headers)


def sent_secrets(injections: Sequence[Injection]) -> list[str]:
    """Every secret text that `inject` writes, the encoded form of `basic` included."""
    found = []
    for injection in injections:
        if injection.secret is not None:
            secret = injection.secret.get_secret_value()
            found.append(secret)
            if injection.kind == "basic":
                found += [_basic(secret), secret.partition(":")[2]]
    return found


def _header_of(injection: Injection, value: str | None) -> tuple[str, str | None]:
    if injection.kind == "header":
        return injection.name, value
    if value is None or injection.secret is None:
        return "Authorization", None
    if injection.kind == "bearer":
        return "Authorization", f"Bearer {value}"
    return "Authorization", f"Basic {_basic(injection.secret.get_secret_value())}"


def _basic(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode("ascii")


def _with_query(url: str, name: str, value: str | None) -> str:
    """Other pairs keep their bytes, because some servers sign or count them."""
    base, hash_mark, fragment = url.partition("#")
    path, _, query = base.partition("?")
    pairs = [
        pair for pair in query.split("&") if pair and unquote_plus(pair.partition("=")[0]) != name
    ]
    if value is not None:
        pairs.append(f"{quote(name, safe='')}={quote(value, safe='')}")
    return path + ("?" + "&".join(pairs) if pairs else "") + hash_mark + fragment


def _with_cookie(headers: Headers, name: str, value: str | None) -> Headers:
    crumbs = [
        crumb.strip()
        for key, text in headers
        if key.lower() == "cookie"
        for crumb in text.split(";")
        if crumb.strip() and crumb.partition("=")[0].strip() != name
    ]
    crumbs += [f"{name}={value}"] if value is not None else []
    kept = [(key, text) for key, text in headers if key.lower() != "cookie"]
    return kept + ([("Cookie", "; ".join(crumbs))] if crumbs else [])
