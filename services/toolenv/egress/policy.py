"""What one tool may send where, and which credentials are added on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import SecretStr

from services.toolenv.egress.errors import EgressRefused
from services.toolenv.egress.targets import (
    BRACES,
    DEFAULT_PORTS,
    Target,
    canonical_host,
    parse_target,
)

InjectionKind = Literal["header", "query", "cookie", "bearer", "basic"]
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Injection:
    """One credential and its place in requests to one host.

    Whatever the tool wrote there is removed, also when there is no secret: keys that published
    tools carry in their code never leave the machine.
    """

    kind: InjectionKind
    name: str = ""
    """Header, query key or cookie; unused by `bearer` and `basic`."""
    secret: SecretStr | None = None
    """None when the operator has none; for `basic` it is `user:password`."""
    prefix: str = ""
    """Put in front of the secret, e.g. `Token `."""


@dataclass(frozen=True, slots=True)
class HostRule:
    """One host a tool may reach."""

    host: str
    """Canonical; `*.example.com` stands for every host below `example.com`, not for itself."""
    ports: frozenset[int] = frozenset()
    """Empty means the default port of the scheme."""
    schemes: frozenset[str] = frozenset({"https"})
    injections: tuple[Injection, ...] = ()

    def matches(self, target: Target) -> bool:
        """Whether a request to `target` falls under this rule."""
        is_host = (
            target.host.endswith(self.host[1:])
            if self.host.startswith("*.")
            else target.host == self.host
        )
        ports = self.ports or {DEFAULT_PORTS.get(target.scheme, 0)}
        return is_host and target.scheme in self.schemes and target.port in ports


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The network of one call; without one a call has no network at all."""

    tool: str
    """Name for logs."""
    hosts: tuple[HostRule, ...]
    max_requests: int = 20
    max_request_bytes: int = _MIB
    max_response_bytes: int = _MIB
    missing_credentials: tuple[str, ...] = ()
    """Names of credentials that the hosts ask for and nobody has stored."""

    def rule_for(self, target: Target) -> HostRule:
        """The first rule that covers a target.

        Raises:
            EgressRefused: None does.
        """
        for rule in self.hosts:
            if rule.matches(target):
                return rule
        listed = ", ".join(rule.host for rule in self.hosts[:10]) or "no host"
        raise EgressRefused(
            target=f"{target.scheme}://{target.authority}",
            rule=f"is not on the tool's list ({listed})",
            fix="name the host in the tool's document",
        )

    @property
    def schemes(self) -> frozenset[str]:
        """Every scheme that some host allows."""
        return frozenset(scheme for rule in self.hosts for scheme in rule.schemes)

    def secrets(self) -> tuple[str, ...]:
        """Values that must not come back to the tool."""
        return tuple(
            injection.secret.get_secret_value()
            for rule in self.hosts
            for injection in rule.injections
            if injection.secret is not None
        )


class AuthLike(Protocol):
    """Shape of `services.toolenv.endpoints.AuthPlacement`."""

    @property
    def credential(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> InjectionKind: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def prefix(self) -> str: ...  # noqa: D102


class EndpointLike(Protocol):
    """Shape of `services.toolenv.endpoints.HttpEndpoint`."""

    @property
    def url(self) -> str: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...  # noqa: D102
    @property
    def auth(self) -> Sequence[AuthLike]: ...  # noqa: D102


def policy_for(
    tool: str,
    endpoints: Iterable[EndpointLike],
    *,
    lookup: Callable[[str], SecretStr | None],
    extra_hosts: Iterable[str] = (),
    extra_rules: Iterable[HostRule] = (),
) -> EgressPolicy:
    """The policy that a tool's own documents imply.

    Args:
        tool: Name for logs.
        endpoints: Where the tool's APIs live; hosts come from the URL and from a fixed
            `X-RapidAPI-Host`. An endpoint with an `http` URL allows `http` for its host.
        lookup: Secret of a credential by name; None when nobody stored one.
        extra_hosts: Further hosts, https on the default port, no credentials; `*.` allowed.
        extra_rules: Further rules, asked after the others.

    Raises:
        EgressRefused: A document names a host that no rule can express.
    """
    rules: dict[Target, dict[Injection, None]] = {}
    missing: dict[str, None] = {}
    for endpoint in endpoints:
        injections = dict.fromkeys(_injection(auth, lookup, missing) for auth in endpoint.auth)
        for target in _targets(endpoint):
            rules.setdefault(target, {}).update(injections)
    hosts = [
        HostRule(
            target.host, frozenset({target.port}), frozenset({target.scheme}), tuple(injections)
        )
        for target, injections in rules.items()
    ]
    hosts += [HostRule(_pattern(host)) for host in extra_hosts]
    hosts += extra_rules
    return EgressPolicy(tool=tool, hosts=tuple(hosts), missing_credentials=tuple(missing))


def _targets(endpoint: EndpointLike) -> list[Target]:
    # Path parameters in braces are legal here and nowhere else.
    url = endpoint.url.translate(BRACES)
    found = [parse_target(url, schemes=("http", "https"))]
    for name, value in endpoint.headers:
        if name.lower() == "x-rapidapi-host":
            found.append(Target("https", canonical_host(value), 443))
    return list(dict.fromkeys(found))


def _pattern(host: str) -> str:
    wildcard = "*." if host.startswith("*.") else ""
    return wildcard + canonical_host(host.removeprefix("*."))


def _injection(
    auth: AuthLike, lookup: Callable[[str], SecretStr | None], missing: dict[str, None]
) -> Injection:
    secret = lookup(auth.credential)
    if secret is None:
        missing[auth.credential] = None
    return Injection(auth.kind, auth.name, secret, auth.prefix)
