"""Reads how the operations of an OpenAPI 3 document are authorised."""

import hashlib

from pydantic import JsonValue

from services.toolenv.endpoints import AuthPlacement
from services.toolenv.extension import credential_part
from services.toolenv.importers.schemas import References, Unsupported

_Object = dict[str, JsonValue]


class SecurityReader:
    """Reads the security of the operations of one document."""

    def __init__(
        self,
        *,
        references: References,
        document: _Object,
        credential_prefix: str,
        default_auth: tuple[AuthPlacement, ...] = (),
    ) -> None:
        """Bind the document; see `OperationReader`."""
        self._references = references
        self._document = document
        self._prefix = credential_prefix
        self._default_auth = default_auth

    def of(self, operation: _Object, where: str) -> tuple[tuple[AuthPlacement, ...], bool]:
        """How the first usable alternative is attached, and whether none is needed.

        Raises:
            Unsupported: No alternative can be attached.
        """
        holder = operation if "security" in operation else self._document
        listed = holder.get("security")
        alternatives = (
            [one for one in listed if isinstance(one, dict)] if (isinstance(listed, list)) else []
        )
        is_optional = {} in alternatives
        problem: Unsupported | None = None
        for alternative in filter(None, alternatives):
            try:
                placed = tuple(self._placement(name, where) for name in alternative)
            except Unsupported as exc:
                problem = problem or exc
            else:
                return placed, is_optional
        if listed is None:
            return self._default_auth, False
        if problem is not None and not is_optional:
            raise problem
        return (), False

    def _placement(self, name: str, where: str) -> AuthPlacement:
        components = self._document.get("components")
        schemes = components.get("securitySchemes") if isinstance(components, dict) else None
        value = schemes.get(name) if isinstance(schemes, dict) else None
        scheme = self._references.object(value, f"{where}/security")
        credential = credential_name(self._prefix, name)
        kind, carrier = scheme.get("type"), str(scheme.get("scheme", "")).lower()
        if kind in ("oauth2", "openIdConnect") or (kind == "http" and carrier == "bearer"):
            return AuthPlacement(credential, "bearer")
        if kind == "http" and carrier == "basic":
            return AuthPlacement(credential, "basic")
        place, key = scheme.get("in"), scheme.get("name")
        if kind == "apiKey" and isinstance(key, str):
            if place == "header":
                return AuthPlacement(credential, "header", key)
            if place == "query":
                return AuthPlacement(credential, "query", key)
            if place == "cookie":
                return AuthPlacement(credential, "cookie", key)
        shown = f"{str(kind)[:40]} {carrier[:40]}".strip()
        raise Unsupported(
            f"{where}/security",
            f"security scheme {name[:100]!r} ({shown}) is not supported",
            "offer an API key, basic, bearer or OAuth 2 as an alternative",
        )


def credential_name(prefix: str, scheme: str) -> str:
    """Name under which the credential of a security scheme is stored: `<tool>.<scheme>`."""
    parts = [credential_part(part) for part in (prefix, scheme)]
    if all(parts) and parts[0][0].isalnum():
        return ".".join(parts)
    digest = hashlib.sha256(f"{prefix}/{scheme}".encode()).hexdigest()
    return f"credential-{digest[:12]}"
