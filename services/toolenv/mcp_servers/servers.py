"""The MCP servers of an installation: started when first called, shared, restarted with a pause.

Definitions are looked at before every call, so a server that is imported, changed or removed by the
command line needs no restart of ours.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx
import structlog
from pydantic import JsonValue, SecretStr

from services.contracts.apis import ApiRef
from services.contracts.errors import FailedPrecondition
from services.contracts.toolenv import CallStatus
from services.toolenv.egress.redaction import Redactor
from services.toolenv.mcp_servers.definitions import McpServerDefinition
from services.toolenv.mcp_servers.problems import McpProblem, not_sent
from services.toolenv.mcp_servers.server import CallReply, ManagedServer, ServerStatus
from services.toolenv.mcp_servers.session import Listing, ServerLimits

log = structlog.get_logger()

_CLOSE_TIMEOUT_S = 10.0


class ToolLookup(Protocol):
    """Where secrets come from; `CredentialStore.lookup` is the usual one."""

    def __call__(self, name: str, *, api: ApiRef) -> SecretStr | None:
        """The secret of everybody's calls of a tool, `None` when there is none."""
        ...


class DefinitionSource(Protocol):
    """Which servers there are; `Definitions` is the usual one."""

    def stamp(self) -> tuple[int, int]:
        """See `Definitions.stamp`."""
        ...

    def read(self) -> dict[str, McpServerDefinition]:
        """See `Definitions.read`."""
        ...


class McpServers:
    """All servers of one definitions file. An asynchronous context manager; concurrency-safe."""

    def __init__(
        self,
        definitions: DefinitionSource,
        *,
        transport: httpx.AsyncBaseTransport,
        lookup: ToolLookup,
        limits: ServerLimits | None = None,
        hidden: Iterable[Path] = (),
    ) -> None:
        """Bind the parts; nothing is started before the first call.

        Args:
            definitions: Which servers there are.
            transport: Sends requests to remote servers; the caller opens and closes it.
            lookup: Secrets by credential name, of calls of one server's tool.
            limits: Bounds of each server.
            hidden: Folders that no local server may be shown as a whole.
        """
        self._definitions = definitions
        self._transport = transport
        self._lookup = lookup
        self._limits = limits or ServerLimits()
        self._hidden = tuple(hidden)
        self._group = asyncio.TaskGroup()
        self._servers: dict[str, ManagedServer] = {}
        self._stamp: tuple[int, int] | None = None
        self._reading = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open the group of tasks that own the sessions."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Stop every server, within 10 s."""
        owners = [owner for server in self._servers.values() for owner in server.stop()]
        if owners:
            await asyncio.wait(owners, timeout=_CLOSE_TIMEOUT_S)
        for owner in owners:
            owner.cancel()
        # Not told of the block's own exception, which it would wrap in a group.
        await self._group.__aexit__(None, None, None)

    async def call(
        self, server: str, tool: str, arguments: dict[str, JsonValue], *, limit_s: float
    ) -> CallReply:
        """Call one tool.

        Args:
            server: Name of the server.
            tool: Name of the tool, verbatim.
            arguments: Under the names that the server expects.
            limit_s: Longest wait, seconds, the server's start included.

        Raises:
            McpProblem: There is no result.
        """
        found = await self._find(server)
        task = self._group.create_task(found.attempt(tool, arguments))
        found.waiting += 1
        try:
            # Not awaited beyond the limit: telling a server that reads nothing of the cancellation
            # can take seconds.
            await asyncio.wait({task}, timeout=limit_s)
        finally:
            found.waiting -= 1
            if not task.done():
                task.cancel()
        if not task.done():
            found.suspect()
            raise McpProblem(
                CallStatus.TIMEOUT, f"the tool did not answer within {limit_s:.3g} s", is_sent=True
            )
        if task.cancelled():
            raise not_sent("the server was stopped")
        outcome = task.result()
        if isinstance(outcome, McpProblem):
            raise outcome
        return outcome

    def redactor(self, server: str) -> Redactor:
        """Takes the secrets that a server was given out of what it says."""
        found = self._servers.get(server)
        return found.redactor() if found is not None else Redactor(())

    async def listing(self, server: str, *, limit_s: float) -> Listing:
        """What a server offers now.

        Raises:
            McpProblem: It cannot be reached.
        """
        found = await self._find(server)
        try:
            async with asyncio.timeout(limit_s):
                session = await found.session()
        except TimeoutError:
            text = f"the server did not start within {limit_s:.3g} s"
            raise McpProblem(CallStatus.TIMEOUT, text, is_sent=False) from None
        if session.listing is None:
            raise not_sent(session.fate.describe())
        if found.redactor().is_in("\n".join(map(str, session.listing.tools))):
            raise not_sent(
                "its description of the tools holds a secret that it was given; do not use it"
            )
        return session.listing

    def status(self) -> list[ServerStatus]:
        """State of every server that was called, by name."""
        return [self._servers[name].status() for name in sorted(self._servers)]

    async def _find(self, name: str) -> ManagedServer:
        await self._refresh()
        server = self._servers.get(name)
        if server is None:
            raise not_sent(
                f"no MCP server {name!r} is defined; "
                f"`toolwright tools import mcp {name} -- COMMAND` adds it"
            )
        return server

    async def _refresh(self) -> None:
        """Take up changes of the definitions; a broken file leaves those in force."""
        async with self._reading:
            stamp = self._definitions.stamp()
            if stamp == self._stamp:
                return
            try:
                defined = await asyncio.to_thread(self._definitions.read)
            except FailedPrecondition as exc:
                log.warning("mcp_definitions_refused", reason=exc.detail)
                self._stamp = stamp
                return
            self._stamp = stamp
            for name in [*self._servers]:
                if defined.get(name) != self._servers[name].definition:
                    self._servers.pop(name).stop()
            for name, definition in defined.items():
                if name not in self._servers:
                    self._servers[name] = self._server(definition)

    def _server(self, definition: McpServerDefinition) -> ManagedServer:
        return ManagedServer(
            definition,
            group=self._group,
            transport=self._transport,
            lookup=partial(self._lookup, api=definition.ref),
            limits=self._limits,
            hidden=self._hidden,
        )
