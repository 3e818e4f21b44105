"""One MCP server of an installation: its definition and the session that serves it, if any."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from pathlib import Path
from typing import Literal, NamedTuple

import httpx
import mcp_types as types
import structlog
from mcp.client._transport import TransportStreams
from mcp.shared.exceptions import MCPError
from pydantic import JsonValue, SecretStr, ValidationError

from services.contracts.toolenv import CallStatus
from services.toolenv.egress.redaction import Redactor
from services.toolenv.mcp_servers.definitions import HttpTransport, McpServerDefinition
from services.toolenv.mcp_servers.fate import Fate
from services.toolenv.mcp_servers.http import Lookup, http_streams
from services.toolenv.mcp_servers.jail import JailUnavailable, check_jail, jailed
from services.toolenv.mcp_servers.problems import McpProblem, not_sent, problem_of
from services.toolenv.mcp_servers.session import McpSession, ServerLimits
from services.toolenv.mcp_servers.stdio import stdio_streams

log = structlog.get_logger()

CallReply = types.CallToolResult | types.InputRequiredResult
_WAITED_OUT_S = 1.0  # a longer pause after a failed start refuses calls
_HEALTHY_S = 30.0  # a session that lived this long was no failed start


class ServerStatus(NamedTuple):
    """State of one server, for people."""

    name: str
    state: Literal["stopped", "starting", "ready", "failed"]
    tools: int
    failures: int
    """Failed starts in a row."""
    problem: str
    """Why it ended last; empty when it did not."""


class ManagedServer:
    """One definition and the session that serves it, if any."""

    def __init__(
        self,
        definition: McpServerDefinition,
        *,
        group: asyncio.TaskGroup,
        transport: httpx.AsyncBaseTransport,
        lookup: Lookup,
        limits: ServerLimits,
        hidden: tuple[Path, ...],
    ) -> None:
        self.definition = definition
        self._group = group
        self._transport = transport
        self._lookup = lookup
        self._limits = limits
        self._hidden = hidden
        self._gate = asyncio.Semaphore(limits.max_calls)
        self._starting = asyncio.Lock()
        self._session: McpSession | None = None
        self._owner: asyncio.Task[None] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._problem = ""
        self.waiting = 0  # callers, including those whose call waits for a slot
        self._is_stopped = False

    async def attempt(self, tool: str, arguments: dict[str, JsonValue]) -> CallReply | McpProblem:
        """One call; every failure is returned, because raising would end the group."""
        session: McpSession | None = None
        is_sent = False
        try:
            async with self._gate:
                session = await self.session()
                digest = self._digest(tool)
                await session.check(tool, digest=digest, is_alone=self.waiting <= 1)
                is_sent = True
                return await session.call(tool, arguments)
        except McpProblem as problem:
            return problem
        except MCPError as exc:
            return self._refused(exc, session, is_sent=is_sent)
        except Exception as exc:  # the SDK's own, or its reading of what a server sent
            if not isinstance(exc, ValidationError):
                log.warning("mcp_call_broke", server=self.definition.name, exc_info=True)
            text = f"the server broke the protocol: {type(exc).__name__}"
            return McpProblem(CallStatus.REQUEST_FAILED, text, is_sent=is_sent)

    async def session(self) -> McpSession:
        """The session in force, started when there is none.

        Raises:
            McpProblem: It does not start, or pauses after a failure.
        """
        async with self._starting:
            session = self._session
            if session is None or session.is_over:
                session = await self._start()
        try:
            await session.ready()
        except McpProblem as exc:
            text = f"MCP server {self.definition.name!r} did not start: {exc}"
            raise McpProblem(exc.status, text, is_sent=False) from exc
        return session

    def stop(self) -> list[asyncio.Task[None]]:
        """End the session; the task that ends it, if any."""
        self._is_stopped = True
        owner, session = self._owner, self._session
        if owner is None or owner.done() or session is None:
            return []
        if session.is_ready:
            session.close("it was stopped")
        else:
            owner.cancel()  # it waits for a server that may never answer
        return [owner]

    def suspect(self) -> None:
        """After a call without an answer: see that the server still answers before the next one."""
        if self._session is not None:
            self._session.is_stale = True

    def status(self) -> ServerStatus:
        """See `McpServers.status`."""
        session = self._session
        state: Literal["stopped", "starting", "ready", "failed"] = "stopped"
        if session is not None and not session.is_over:
            state = "ready" if session.is_ready else "starting"
        elif self._failures:
            state = "failed"
        return ServerStatus(
            name=self.definition.name,
            state=state,
            tools=len(session.digests) if session is not None else 0,
            failures=self._failures,
            problem=self._problem,
        )

    def redactor(self) -> Redactor:
        """Takes the secrets that the server was given out of what it says."""
        reach = self.definition.reach
        names = (
            [placement.credential for placement in reach.auth]
            if isinstance(reach, HttpTransport)
            else reach.env.values()
        )
        secrets = [self._lookup(name) for name in names]
        return Redactor(secret.get_secret_value() for secret in secrets if secret is not None)

    async def _start(self) -> McpSession:
        if self._owner is not None:
            await asyncio.wait({self._owner})  # bounded: it is cleaning up
        pause_s = self._retry_at - time.monotonic()
        if 0 < pause_s <= _WAITED_OUT_S:
            await asyncio.sleep(pause_s)
            pause_s = 0
        name = self.definition.name
        if self._is_stopped:
            raise not_sent(f"MCP server {name!r} was removed or changed; call again")
        if pause_s > 0:
            raise not_sent(
                f"MCP server {name!r} failed and is started again in {pause_s:.1f} s: "
                f"{self._problem}"
            )
        fate = Fate()
        session = McpSession(lambda: self._connect(fate), fate=fate, limits=self._limits)
        self._session = session
        # A context of its own: the first caller's deadline is not the session's.
        self._owner = self._group.create_task(self._own(session), context=Context())
        return session

    async def _own(self, session: McpSession) -> None:
        began = time.monotonic()
        log.info("mcp_server_starting", server=self.definition.name)
        await session.run()
        self._problem = self.redactor().in_text(session.fate.describe())
        log.info("mcp_server_ended", server=self.definition.name, reason=self._problem)
        if self._is_stopped:
            return
        self._failures = 1 if time.monotonic() - began > _HEALTHY_S else self._failures + 1
        pause_s = self._limits.first_pause_s * 2 ** min(self._failures - 1, 16)
        self._retry_at = time.monotonic() + min(pause_s, self._limits.longest_pause_s)

    @asynccontextmanager
    async def _connect(self, fate: Fate) -> AsyncIterator[TransportStreams]:
        reach = self.definition.reach
        limit = self._limits.max_message_bytes
        if isinstance(reach, HttpTransport):
            self._secrets({placement.credential: placement.credential for placement in reach.auth})
            async with http_streams(
                reach, transport=self._transport, lookup=self._lookup, max_message_bytes=limit
            ) as streams:
                yield streams
            return
        secrets = self._secrets(reach.env)
        try:
            await asyncio.to_thread(check_jail)
            with jailed(reach, secrets=secrets, hidden=self._hidden) as command:
                async with stdio_streams(command, max_message_bytes=limit, fate=fate) as (
                    read,
                    write,
                ):
                    yield read, write
        except JailUnavailable as exc:
            raise not_sent(str(exc)) from exc

    def _secrets(self, wanted: dict[str, str]) -> dict[str, SecretStr]:
        """Secrets by the names they are wanted under."""
        found: dict[str, SecretStr] = {}
        for name, credential in wanted.items():
            secret = self._lookup(credential)
            if secret is None:
                tool = f"{self.definition.category}/{self.definition.name}"
                raise not_sent(
                    f"credential {credential!r} is missing; "
                    f"`toolwright credentials set {credential} --tool {tool}` stores it"
                )
            found[name] = secret
        return found

    def _digest(self, tool: str) -> str | None:
        imported = self.definition.tools
        if imported is None:
            return None
        if tool not in imported:
            raise not_sent(f"tool {tool!r} was not imported from {self.definition.name!r}")
        return imported[tool]

    def _refused(self, exc: MCPError, session: McpSession | None, *, is_sent: bool) -> McpProblem:
        problem = problem_of(exc, is_sent=is_sent)
        if session is None:
            return problem
        if exc.message == "Session terminated":  # the SDK's words for HTTP 404
            session.close("the server forgot the session")
            return McpProblem(CallStatus.REQUEST_FAILED, str(problem), is_sent=is_sent)
        if exc.code == types.CONNECTION_CLOSED and session.fate.reason:
            text = f"the server's connection ended during the call: {session.fate.describe()}"
            return McpProblem(problem.status, text, is_sent=is_sent)
        return problem
