"""Imports ChatGPT plugin manifests (`ai-plugin.json`, version 1) and the OpenAPI document named.

Source: the manifest format that OpenAI published for ChatGPT plugins in 2023.
"""

import hashlib
from collections.abc import Callable
from typing import Literal
from urllib.parse import urljoin, urlsplit

from pydantic import Field, ValidationError

from services.contracts.base import ForeignModel
from services.toolenv.documents import Refusal
from services.toolenv.endpoints import AuthPlacement
from services.toolenv.extension import ToolExtension, check_url
from services.toolenv.importers.imported import ImportedTool, ToolRefused, tool_name
from services.toolenv.importers.openapi import import_openapi, public_url
from services.toolenv.importers.security import credential_name
from services.toolenv.importers.structured import load_object, refusal


class PluginAuth(ForeignModel):
    """How the plugin's API is authorised; the manifest's tokens are neither read nor kept."""

    type: Literal["none", "service_http", "user_http", "oauth"]
    authorization_type: Literal["bearer", "basic"] = "bearer"


class PluginApi(ForeignModel):
    """Where the plugin's OpenAPI document is."""

    type: Literal["openapi"]
    url: str = Field(min_length=1, max_length=8192)


class PluginManifest(ForeignModel):
    """The part of a manifest that says what can be called."""

    schema_version: Literal["v1"]
    name_for_model: str = Field(min_length=1, max_length=200)
    description_for_model: str = Field(default="", max_length=65_536)
    description_for_human: str = Field(default="", max_length=65_536)
    auth: PluginAuth
    api: PluginApi


def import_ai_plugin(
    content: bytes,
    *,
    file: str,
    openapi: bytes | None = None,
    fetch: Callable[[str], bytes] | None = None,
    manifest_url: str | None = None,
    category: str | None = None,
    name: str | None = None,
    server_url: str | None = None,
) -> ImportedTool:
    """Read a manifest and its OpenAPI document.

    Args:
        content: The manifest, JSON.
        file: Its name in refusals.
        openapi: The OpenAPI document, when it is at hand.
        fetch: Fetches it otherwise, within bounds of its own.
        manifest_url: Where the manifest was fetched from; a relative URL in it starts there.
        category: Category of the tool, `Customized` by default.
        name: Name of the tool, `name_for_model` by default.
        server_url: Absolute URL used instead of the document's servers.

    Raises:
        ToolRefused: The manifest or the document is unusable; every reason is in it.
        InvalidArgument: `category` or `name` cannot be a name.
    """
    manifest = _manifest(content, file)
    url = urljoin(manifest_url or "", manifest.api.url)
    if openapi is None:
        openapi = _fetched(url, fetch, file)
    title = name or manifest.name_for_model
    return import_openapi(
        openapi,
        file=urlsplit(url).path.rpartition("/")[2] or file,
        category=category,
        name=title,
        server_url=server_url,
        document_url=url if urlsplit(url).netloc else None,
        description=manifest.description_for_model or manifest.description_for_human,
        default_auth=_auth(manifest.auth, tool_name(title)),
        source=ToolExtension(
            source="ai_plugin",
            origin=public_url(manifest_url) if manifest_url else file,
            version=manifest.schema_version,
            sha256=hashlib.sha256(content).hexdigest(),
        ),
    )


def _manifest(content: bytes, file: str) -> PluginManifest:
    value = load_object(content, file=file)
    try:
        return PluginManifest.model_validate(value)
    except ValidationError as exc:
        raise ToolRefused(
            [
                Refusal(
                    file,
                    ".".join(str(part) for part in error["loc"]) or "file",
                    error["msg"],
                    "see the format of ai-plugin.json, version v1",
                )
                for error in exc.errors(include_url=False, include_input=False)[:20]
            ]
        ) from exc


def _fetched(url: str, fetch: Callable[[str], bytes] | None, file: str) -> bytes:
    try:
        check_url(url)
    except ValueError as exc:
        fix = "give the OpenAPI document itself with --openapi"
        raise refusal(file, f"api.url: {exc}", fix) from exc
    if fetch is None:
        fix = "give the OpenAPI document itself with --openapi"
        raise refusal(file, f"its OpenAPI document is at {public_url(url)!r}", fix)
    return fetch(url)


def _auth(auth: PluginAuth, tool: str) -> tuple[AuthPlacement, ...]:
    if auth.type == "none":
        return ()
    kind: Literal["bearer", "basic"] = "bearer"
    if auth.type != "oauth" and auth.authorization_type == "basic":
        kind = "basic"
    return (AuthPlacement(credential_name(tool, "plugin"), kind),)
