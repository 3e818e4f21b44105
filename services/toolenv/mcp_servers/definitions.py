"""Which MCP servers there are and how each is reached: one JSON file, never a secret in it.

The file stands beside the imported documents (`<tools root>/mcp-servers.json`). A definition names
the credentials that a server needs; their values come from the credential store.
"""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from services.contracts.apis import ApiRef
from services.contracts.base import WireModel
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.contracts.toolbench.names import standardize, standardize_category
from services.kit.files import file_lock, write_atomically
from services.toolenv.extension import AuthExtension, check_url

FILE_NAME: Final = "mcp-servers.json"
MAX_SERVERS: Final = 256
MAX_FILE_BYTES: Final = 4 << 20
_CREDENTIAL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_SECRET_WORDS = re.compile(r"api[-_]?key|token|secret|passw|authorization", re.IGNORECASE)
_OWN_VARIABLES: Final = frozenset({"PATH", "HOME", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH"})
TOO_BROAD: Final = frozenset(
    {"/", "/boot", "/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/srv"}
    | {"/sys", "/tmp", "/var", "/var/lib", "/var/run"}  # noqa: S108 - refused, not used
)
"""Folders that hold other people's files: a server gets the folder it needs, not all of them."""


class StdioTransport(WireModel):
    """A program that is started here, in a jail, and spoken to over its standard streams."""

    transport: Literal["stdio"] = "stdio"
    command: str = Field(min_length=1, max_length=1024)
    """A program of the system's folders, or an absolute path."""
    args: tuple[Annotated[str, Field(max_length=4096)], ...] = Field((), max_length=64)
    env: dict[
        Annotated[str, Field(pattern=_VARIABLE)], Annotated[str, Field(pattern=_CREDENTIAL)]
    ] = Field({}, max_length=32)
    """Environment variable -> name of the credential that fills it. Nothing else is passed on."""
    read_paths: tuple[Annotated[str, Field(max_length=4096)], ...] = Field((), max_length=32)
    """Absolute files and folders that the server may read, beside the system's programs."""
    network: bool = False
    """Whether it may use the network: all of it, this machine's own services included."""
    memory_mb: int = Field(default=1024, ge=64, le=65536)
    """Most private memory of each of its processes, MiB (RLIMIT_DATA)."""
    cpu_s: int = Field(default=3600, ge=1, le=1_000_000)
    """Processor seconds of each of its processes, after which it is killed and started anew."""

    @field_validator("command", "args", mode="after")
    @classmethod
    def _no_secret(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (value,) if isinstance(value, str) else value:
            if "\0" in text:
                raise ValueError("it holds a NUL character")
            name, given, secret = text.partition("=")
            if given and secret and _SECRET_WORDS.search(name):
                raise ValueError(
                    f"{name!r} looks like a secret on a command line, which every user of the "
                    "machine can read; pass it with --env VARIABLE=CREDENTIAL"
                )
        return value

    @field_validator("env", mode="after")
    @classmethod
    def _not_ours(cls, value: dict[str, str]) -> dict[str, str]:
        taken = sorted(_OWN_VARIABLES & set(value))
        if taken:
            raise ValueError(f"{taken[0]} belongs to the jail")
        return value

    @field_validator("read_paths", mode="after")
    @classmethod
    def _narrow(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            path = Path(text)
            if not path.is_absolute() or ".." in path.parts or "\0" in text:
                raise ValueError(f"{text!r} is not an absolute path without '..'")
            if str(path) in TOO_BROAD or path.parent == Path("/home"):
                raise ValueError(f"{text!r} holds other things too; name the folder it needs")
        return value


class HttpTransport(WireModel):
    """A server that runs elsewhere, spoken to over streamable HTTP."""

    transport: Literal["http"] = "http"
    url: str = Field(max_length=8192)
    auth: tuple[AuthExtension, ...] = Field((), max_length=8)
    """Credentials by name, and where each goes in a request."""

    @field_validator("url", mode="after")
    @classmethod
    def _plain(cls, value: str) -> str:
        check_url(value)
        parts = urlsplit(value)
        if parts.fragment:
            raise ValueError("the URL has a fragment, which is never sent; remove it")
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if _SECRET_WORDS.search(name):
                raise ValueError(f"{name!r} in the URL looks like a secret; use auth of kind query")
        return value


class McpServerDefinition(WireModel):
    """One MCP server."""

    name: str = Field(max_length=64)
    """Its tool name in the catalogue."""
    category: str = Field(default="MCP", min_length=1, max_length=128)
    """Its category in the catalogue, and the folder of its document."""
    reach: Annotated[StdioTransport | HttpTransport, Field(discriminator="transport")]
    tools: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] | None = Field(
        default=None, max_length=4096
    )
    """Verbatim tool name -> SHA-256 of what the server said about it when it was imported; a tool
    that says something else now is not called. `None` before the import."""

    @property
    def ref(self) -> ApiRef:
        """Stands for the server's tool where credentials are looked up."""
        return ApiRef(category=self.category, tool=self.name, api=self.name)

    @model_validator(mode="after")
    def _addressable(self) -> Self:
        if (
            not self.name
            or not self.name.isascii()
            or standardize(self.name) != self.name
            or "^" in self.name
        ):
            better = standardize(self.name) or "my_server"
            raise ValueError(f"name {self.name!r} is not a standard tool name; use {better!r}")
        if standardize_category(self.category) != self.category or self.category[0] in "._":
            better = standardize_category(self.category).lstrip("._") or "MCP"
            raise ValueError(f"category {self.category!r} is no folder name; use {better!r}")
        if not re.fullmatch(r"[A-Za-z0-9_. -]+", self.category):
            raise ValueError(f"category {self.category!r} may hold letters, digits and _ . - only")
        return self


_FILE = TypeAdapter(dict[str, McpServerDefinition])


class SingleDefinition:
    """One server that stands in no file, such as one that is about to be imported."""

    def __init__(self, definition: McpServerDefinition) -> None:
        self._definition = definition

    def stamp(self) -> tuple[int, int]:
        """See `Definitions.stamp`."""
        return (1, 1)

    def read(self) -> dict[str, McpServerDefinition]:
        """See `Definitions.read`."""
        return {self._definition.name: self._definition}


class Definitions:
    """The servers of one tools root; safe to use from several processes."""

    def __init__(self, root: Path) -> None:
        """Bind the folder; nothing is read yet.

        Args:
            root: The user's tools root.
        """
        self.path = root / FILE_NAME

    def stamp(self) -> tuple[int, int]:
        """Something that changes when the file does."""
        try:
            state = self.path.stat()
        except OSError:
            return (0, 0)
        return state.st_mtime_ns, state.st_ino

    def read(self) -> dict[str, McpServerDefinition]:
        """Every server by name; none when there is no file. Blocking file access.

        Raises:
            FailedPrecondition: The file cannot be used; the detail names server and field.
        """
        try:
            with self.path.open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise self._unusable(f"it cannot be read: {exc.strerror}", "check its access") from exc
        if len(content) > MAX_FILE_BYTES:
            raise self._unusable(f"it exceeds {MAX_FILE_BYTES} bytes", "remove some servers")
        try:
            servers = _FILE.validate_json(content)
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part)[:100] for part in error["loc"]) or "file"
            raise self._unusable(f"{where}: {error['msg']}", "correct it") from exc
        for name, server in servers.items():
            if name != server.name:
                raise self._unusable(f"{name}: its name is {server.name!r}", "make them the same")
        return servers

    def put(self, server: McpServerDefinition) -> None:
        """Add a server, or replace the one of the same name.

        Raises:
            InvalidArgument: There are too many.
            FailedPrecondition: The file cannot be used.
            Unavailable: It cannot be written.
        """
        with file_lock(self._lock):
            servers = {**self.read(), server.name: server}
            if len(servers) > MAX_SERVERS:
                raise InvalidArgument(f"there are {MAX_SERVERS} MCP servers already; remove one")
            self._write(servers)

    def remove(self, name: str) -> McpServerDefinition:
        """Forget a server.

        Raises:
            NotFound: There is none of this name.
            FailedPrecondition: The file cannot be used.
            Unavailable: It cannot be written.
        """
        with file_lock(self._lock):
            servers = self.read()
            if name not in servers:
                known = ", ".join(sorted(servers)) or "none"
                raise NotFound(f"no MCP server {name!r}; there are: {known}")
            removed = servers.pop(name)
            self._write(servers)
            return removed

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{FILE_NAME}.lock")

    def _write(self, servers: dict[str, McpServerDefinition]) -> None:
        content = _FILE.dump_json(dict(sorted(servers.items())), indent=1)
        write_atomically(self.path, content + b"\n")

    def _unusable(self, reason: str, fix: str) -> FailedPrecondition:
        return FailedPrecondition(f"{str(self.path)!r}: {reason}; {fix}")
