"""One live MCP session, owned by one task and used by many.

The SDK's task groups must be entered and left by the same task, so `run` is that task: it connects,
lists the tools, says that it is ready, and stays until the connection ends or the session is
closed. Calls come from any task.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import mcp_types as types
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.client.session import IncomingMessage
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError
from pydantic import JsonValue, TypeAdapter

from services.contracts.toolenv import CallStatus
from services.toolenv.mcp_servers.fate import Fate, WatchedStream
from services.toolenv.mcp_servers.problems import McpProblem, not_sent, problem_of

_RESULT: Final[TypeAdapter[types.CallToolResult | types.InputRequiredResult]] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
_CLIENT: Final = types.Implementation(name="toolwright", version="1")
_SUBSCRIBE_TIMEOUT_S = 5.0
_RELIST_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of one server's session.

    Attributes:
        connect_timeout_s: Longest time until a server has started and listed its tools, seconds.
        max_message_bytes: Longest message that is read.
        max_unasked: Most messages within 10 s that answer no call.
        max_tools: Most tools of one server.
        max_pages: Most pages of one listing.
        max_calls: Calls that one server works on at the same time; more wait.
        relist_s: Age after which the tools are listed again before a call, seconds.
        first_pause_s: Pause after the first failed start, seconds; it doubles each time.
        longest_pause_s: Longest pause, seconds.
    """

    connect_timeout_s: float = 20.0
    max_message_bytes: int = 4 << 20
    max_unasked: int = 1000
    max_tools: int = 1024
    max_pages: int = 64
    max_calls: int = 32
    relist_s: float = 300.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 60.0


class Listing(NamedTuple):
    """What a server says about itself and its tools."""

    tools: tuple[types.Tool, ...]
    server_name: str
    server_version: str
    protocol_version: str


def tool_digest(tool: types.Tool) -> str:
    """SHA-256, in hexadecimal digits, of all that a server says about a tool."""
    said = tool.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"icons", "meta"})
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class McpSession:
    """See the module. Made, run once, thrown away."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[TransportStreams]],
        *,
        fate: Fate,
        limits: ServerLimits,
    ) -> None:
        """Prepare a session; nothing is opened yet.

        Args:
            connect: Opens the transport.
            fate: Shared with the transport.
            limits: See `ServerLimits`.
        """
        self._connect = connect
        self._limits = limits
        self.fate = fate
        self._client: Client | None = None
        self._closing = asyncio.Event()
        self._listing_lock = asyncio.Lock()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._ended: asyncio.Event | None = None
        self.digests: dict[str, str] = {}
        self.listing: Listing | None = None
        self.is_stale = False
        """Whether the tools must be listed again before the next call."""
        self._listed_at = 0.0
        self._is_over = False

    async def run(self) -> None:
        """Own the session until it ends; never raises but for cancellation."""
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._limits.connect_timeout_s):
                    await self._open(stack)
                self._ready.set_result(None)
                await self._stay()
        except TimeoutError:
            self._fail(f"it did not answer within {self._limits.connect_timeout_s:.3g} s")
        except (Exception, BaseExceptionGroup) as exc:  # noqa: BLE001 - the one boundary to foreign code and its servers
            cause = _innermost(exc)
            self._fail(f"{type(cause).__name__}: {cause}"[:500], cause)
        finally:
            self._is_over = True
            self._fail("it was stopped")

    async def _open(self, stack: AsyncExitStack) -> None:
        client = Client(
            self._watched(),
            message_handler=self._on_message,
            client_info=_CLIENT,
            mode="auto",
            cache=None,
        )
        self._client = await stack.enter_async_context(client)
        await self._list()
        tools = client.server_capabilities.tools
        if tools is not None and tools.list_changed:
            await self._subscribe(stack, client)

    async def _subscribe(self, stack: AsyncExitStack, client: Client) -> None:
        """Ask for news of the tools where the protocol wants that.

        Without it they are listed anew from time to time.
        """
        try:
            async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_S):
                await stack.enter_async_context(client.listen(tools_list_changed=True))
        except (ListenNotSupportedError, MCPError, SubscriptionLost, TimeoutError):
            return

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[TransportStreams]:
        async with self._connect() as (read, write):
            watched = WatchedStream(read, fate=self.fate, max_unasked=self._limits.max_unasked)
            self._ended = watched.ended
            yield watched, write

    async def _stay(self) -> None:
        ended = self._ended
        waits = [asyncio.ensure_future(self._closing.wait())]
        if ended is not None:
            waits.append(asyncio.ensure_future(ended.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _fail(self, reason: str, cause: BaseException | None = None) -> None:
        status = CallStatus.API_NOT_WORKING
        if isinstance(cause, McpProblem):
            reason, status = str(cause), cause.status
        elif isinstance(cause, MCPError):
            reason, status = cause.message[:500], problem_of(cause, is_sent=False).status
        self.fate.settle(reason)
        if not self._ready.done():
            if status is not CallStatus.UNAUTHORIZED:
                status = CallStatus.API_NOT_WORKING
            self._ready.set_exception(McpProblem(status, self.fate.describe(), is_sent=False))

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.is_stale = True

    async def ready(self) -> None:
        """Return when calls can be made.

        Raises:
            McpProblem: The server did not start.
        """
        await asyncio.shield(self._ready)

    @property
    def is_over(self) -> bool:
        """Whether no call can be made any more; the owner may still be cleaning up."""
        return self._is_over or self._closing.is_set() or bool(self._ended and self._ended.is_set())

    @property
    def is_ready(self) -> bool:
        """Whether calls can be made."""
        return self._ready.done() and not self._ready.exception() and not self.is_over

    def close(self, reason: str) -> None:
        """Have the owner end the session; calls in flight fail."""
        self.fate.settle(reason)
        self._closing.set()

    async def check(self, tool: str, *, digest: str | None, is_alone: bool) -> None:
        """Return when the tool is still what it was when it was imported.

        Args:
            tool: Verbatim name.
            digest: What `tool_digest` gave at the import; `None` asks for the name only.
            is_alone: No other call is in progress, so a server that does not even list its tools is
                ended.

        Raises:
            McpProblem: The server has no such tool now, or says something else about it.
        """
        async with self._listing_lock:
            if self.is_stale or time.monotonic() - self._listed_at > self._limits.relist_s:
                await self._list_again(is_alone=is_alone)
        found = self.digests.get(tool)
        if found is None:
            raise not_sent(f"the server has no tool {tool!r} any more; import it again")
        if digest is not None and found != digest:
            raise not_sent(
                f"the server changed what it says about its tool {tool!r} since the import; "
                "import it again and approve the change"
            )

    async def call(
        self, tool: str, arguments: dict[str, JsonValue]
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Call a tool; cancellation is sent on to the server.

        The SDK's `call_tool` is not used: it checks results against the server's own schema, whose
        patterns can keep a regular expression busy for hours.

        Raises:
            MCPError: The server, or the transport in its place, answered with an error.
            pydantic.ValidationError: It answered outside its protocol.
        """
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(name=tool, arguments=arguments)
        )
        return await self._live().session.send_request(request, _RESULT)

    async def _list_again(self, *, is_alone: bool) -> None:
        try:
            async with asyncio.timeout(_RELIST_TIMEOUT_S):
                await self._list()
        except TimeoutError:
            self.is_stale = True
            text = f"the server did not list its tools within {_RELIST_TIMEOUT_S:.0f} s"
            if is_alone:
                self.close(text)
            raise not_sent(text) from None

    async def _list(self) -> None:
        client = self._live()
        self.is_stale = False  # before asking: a change while we ask counts
        tools: dict[str, types.Tool] = {}
        cursor: str | None = None
        for _ in range(self._limits.max_pages):
            page = await client.session.list_tools(
                params=types.PaginatedRequestParams(cursor=cursor)
            )
            for tool in page.tools:
                tools.setdefault(tool.name, tool)
            if len(tools) > self._limits.max_tools:
                raise not_sent(f"it lists more than {self._limits.max_tools} tools")
            cursor = page.next_cursor
            if cursor is None:
                break
        else:
            raise not_sent(f"its list of tools has more than {self._limits.max_pages} pages")
        info = client.server_info
        self.digests = {name: tool_digest(tool) for name, tool in tools.items()}
        self.listing = Listing(
            tools=tuple(tools.values()),
            server_name=info.name if info else "",
            server_version=info.version if info else "",
            protocol_version=client.protocol_version,
        )
        self._listed_at = time.monotonic()

    def _live(self) -> Client:
        if self._client is None or self.is_over:
            raise McpProblem(CallStatus.API_NOT_WORKING, self.fate.describe(), is_sent=False)
        return self._client


def _innermost(exc: BaseException) -> BaseException:
    """What a failure inside the SDK's task groups was about."""
    found = exc
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
