"""An API on loopback that answers as a test says, badly if need be, and keeps what it received."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef, SideEffect
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.endpoints import AuthPlacement, EndpointParameter, HttpEndpoint


class _Loopback:
    """Every `host:port` of this machine, known or not."""

    def __contains__(self, authority: object) -> bool:
        return str(authority).startswith("127.0.0.1:")


LOOPBACK = _Loopback()


class Received(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class LiveApi:
    """State of the server; `behaviours` are by path, `*` for the others."""

    port: int = 0
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    running: int = 0
    peak: int = 0
    """Most requests in progress at the same time."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [urlsplit(request.target).path for request in self.received]


@asynccontextmanager
async def serve_api(**behaviours: Behaviour) -> AsyncIterator[LiveApi]:
    """A server whose behaviours are named by path without its slash; `other` is for the rest."""
    state = LiveApi(behaviours={f"/{name}": known for name, known in behaviours.items()})
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await _serve_one(state, reader, writer):
                    pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.wait({asyncio.create_task(server.wait_closed())}, timeout=5)
        await asyncio.sleep(0)


async def _serve_one(
    state: LiveApi, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    request = Received(method, target, headers, body)
    state.received.append(request)
    state.running += 1
    state.peak = max(state.peak, state.running)
    try:
        behaviour = state.behaviours.get(urlsplit(target).path, state.behaviours.get("/other"))
        await (behaviour or answer(b'{"message": "Not Found"}', status=404))(request, writer)
        await writer.drain()
    finally:
        state.running -= 1
    return not writer.is_closing()


def answer(
    body: bytes | str = b"{}",
    *,
    status: int = 200,
    content_type: str = "application/json",
    delay_s: float = 0.0,
    **headers: str,
) -> Behaviour:
    """An ordinary answer; headers with `_` for `-`."""
    content = body.encode() if isinstance(body, str) else body

    async def behave(_: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_s)
        fields = {"content-type": content_type, "content-length": str(len(content))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + content)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour per request; the last one for all further ones."""
    left = list(behaviours)

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return behave


def echo_secrets(*, transform: Callable[[str], str] = str) -> Behaviour:
    """Sends back the API key it was called with."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        told = transform(request.headers.get("x-rapidapi-key", ""))
        await answer(f'{{"you_sent": "{told}"}}')(request, writer)

    return behave


async def silent(_: Received, __: asyncio.StreamWriter) -> None:
    """Accepts the request and never answers."""
    await asyncio.sleep(60)


async def dropped(_: Received, writer: asyncio.StreamWriter) -> None:
    """Does the work, then breaks the connection without an answer."""
    writer.close()


async def drip(_: Received, writer: asyncio.StreamWriter) -> None:
    """Sends one byte every 50 ms, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000000\r\n\r\n")
    for _ in range(1200):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


def flood(size_bytes: int) -> Behaviour:
    """One JSON text without a line break, of any size, without saying how long it is."""

    async def behave(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"data": "')
        piece = b"a" * 65_536
        for _ in range(size_bytes // len(piece)):
            writer.write(piece)
            await writer.drain()
        writer.write(b'"}')
        writer.close()

    return behave


class Keyring:
    """Credentials in memory, by name or by (name, user)."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = secrets
        self.asked: list[tuple[str, str | None, ApiRef]] = []

    def lookup(self, name: str, *, user: str | None, api: ApiRef) -> SecretStr | None:
        self.asked.append((name, user, api))
        secret = self.secrets.get(f"{name}_{user}") or self.secrets.get(name)
        return None if secret is None else SecretStr(secret)


RAPIDAPI_KEY = AuthPlacement("rapidapi", "header", "X-RapidAPI-Key")


def live_entry(
    url: str,
    *,
    method: str = "GET",
    parameters: tuple[EndpointParameter, ...] = (),
    required: tuple[str, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
    auth: tuple[AuthPlacement, ...] = (),
    is_auth_optional: bool = False,
    effect: SideEffect | None = None,
    template: object = None,
) -> CatalogueEntry:
    """A catalogue entry for one HTTP API; every parameter is declared, `required` ones as such."""
    names = dict.fromkeys(parameter.argument or parameter.name for parameter in parameters)
    document = ApiDocument(
        ref=ApiRef(category="Test", tool="live_tool", api="live_api"),
        category_name="Test",
        tool_name="Live Tool",
        api_name="Live API",
        method=method,
        required_parameters=tuple(ApiParameter(name=name) for name in names if name in required),
        optional_parameters=tuple(
            ApiParameter(name=name) for name in names if name not in required
        ),
        template_response=template,
        declared_effect=effect,
    )
    endpoint = HttpEndpoint(method, url, parameters, headers, auth, is_auth_optional)
    return CatalogueEntry(document, endpoint=endpoint)
