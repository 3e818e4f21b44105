"""Starts real MCP servers for tests, local and remote, and calls them."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from services.toolenv.mcp_servers import (
    HttpTransport,
    McpProblem,
    McpServerDefinition,
    McpServers,
    ServerLimits,
    SingleDefinition,
    StdioTransport,
)

DATA = Path(__file__).parents[1] / "data" / "mcp"
QUICK = ServerLimits(first_pause_s=0.1, connect_timeout_s=15)


def stdio(script: str = "server.py", *arguments: str, **more: object) -> StdioTransport:
    path = str(DATA / script)
    return StdioTransport.model_validate(
        {
            "command": sys.executable,
            "args": [path, *(arguments or ("stdio",))],
            "read_paths": [path],
            **more,
        }
    )


@asynccontextmanager
async def serving(
    reach: StdioTransport | HttpTransport,
    *,
    limits: ServerLimits = QUICK,
    transport: httpx.AsyncBaseTransport | None = None,
    secrets: dict[str, str] | None = None,
) -> AsyncIterator[McpServers]:
    definition = McpServerDefinition(name="bench", reach=reach)
    known = {name: SecretStr(value) for name, value in (secrets or {}).items()}
    async with (
        transport or httpx.AsyncHTTPTransport() as sender,
        McpServers(
            SingleDefinition(definition),
            transport=sender,
            lookup=lambda name, api: known.get(name),
            limits=limits,
        ) as servers,
    ):
        yield servers


async def value(
    servers: McpServers, tool: str, limit_s: float = 20.0, **arguments: object
) -> object:
    result = await servers.call("bench", tool, arguments, limit_s=limit_s)  # type: ignore[arg-type]
    if result.structured_content is not None:
        return result.structured_content["result"]
    return result.content[0].text


async def problem(
    servers: McpServers, tool: str, limit_s: float = 20.0, **arguments: object
) -> McpProblem:
    with pytest.raises(McpProblem) as caught:
        await servers.call("bench", tool, arguments, limit_s=limit_s)  # type: ignore[arg-type]
    return caught.value


def run(body: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(body(), 60))  # type: ignore[arg-type]


@contextmanager
def http_server(*arguments: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(DATA / "server.py"), "http", str(port), *arguments],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait(10)


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing listens on {port}")


def processes(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue
        if text in command and parent != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
