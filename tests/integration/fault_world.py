"""What the tests of faults share: tools in a folder, calls with a stopwatch, a service to kill."""

import asyncio
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from services.contracts.apis import ApiRef
from services.contracts.context import deadline_in
from services.contracts.errors import Internal, ServiceError
from services.contracts.toolenv import CallSource, CallStatus, Observation, ToolCall
from services.toolenv.service import ToolEnvService

REPOSITORY = Path(__file__).parents[2]
GRACE_S = 1.0
"""How long after its deadline a call may still take."""
DAY_S = 86_400.0
LOOSE_CLOCK = (str(Path(__file__).with_name("loose_clock.py")),)
"""Command of a service whose clock jumps, for `ServiceProcess.start`."""


# Tools


def write_tool(
    root: Path, tool: str, apis: Mapping[str, dict[str, Any]], *, code: str = "", about: str = ""
) -> Path:
    """Write a ToolBench document below `root`, and its code where there is some."""
    folder = root / "Faults"
    folder.mkdir(parents=True, exist_ok=True)
    if code:
        (folder / tool).mkdir(exist_ok=True)
        (folder / tool / "api.py").write_text(code, encoding="utf-8")
    document = {
        "tool_name": tool,
        "tool_description": about,
        "api_list": [{"name": name, **fields} for name, fields in apis.items()],
    }
    path = folder / f"{tool}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def http_api(url: str, *, method: str = "GET") -> dict[str, Any]:
    """An API at a URL, with one optional parameter `q`."""
    place = "query" if method == "GET" else "body"
    http = {"method": method, "url": url, "parameters": [{"name": "q", "place": place}]}
    return {
        "method": method,
        "optional_parameters": [{"name": "q", "type": "STRING"}],
        "x-toolwright": {"http": http},
    }


def write_live_tool(root: Path, url: str, *paths: str, tool: str = "live") -> Path:
    """A tool with one GET API per path of a server, named after the path."""
    return write_tool(root, tool, {path: http_api(f"{url}/{path}") for path in paths})


# Calls


class Outcome(NamedTuple):
    """How a call ended: one of the two is set."""

    observation: Observation | None
    error: ServiceError | None
    took_s: float

    @property
    def kind(self) -> str:
        """The observation's status, or the class of the error."""
        return self.observation.status.value if self.observation else type(self.error).__name__


def tool_call(
    ref: str, *, sources: tuple[CallSource, ...] | None = None, **arguments: Any
) -> ToolCall:
    return ToolCall(
        api=ApiRef.parse(f"Faults/{ref}"), arguments_text=json.dumps(arguments), sources=sources
    )


async def timed_call(env: ToolEnvService, call: ToolCall, *, deadline_s: float) -> Outcome:
    """Make one call; it must end in time, with an answer or an error that has a type."""
    started = time.perf_counter()
    observation = error = None
    with deadline_in(deadline_s):
        try:
            observation = await env.invoke(call)
        except ServiceError as exc:
            error = exc
    took_s = time.perf_counter() - started
    assert took_s < deadline_s + GRACE_S
    assert not isinstance(error, Internal)
    return Outcome(observation, error, took_s)


async def answer_of(env: ToolEnvService, call: ToolCall, *, deadline_s: float = 10.0) -> Any:
    """The response of a call that must succeed."""
    outcome = await timed_call(env, call, deadline_s=deadline_s)
    assert outcome.observation is not None, outcome.error
    assert outcome.observation.status is CallStatus.OK, outcome.observation.content[:500]
    return json.loads(outcome.observation.content)["response"]


# Servers


async def reset(_: object, writer: asyncio.StreamWriter) -> None:
    """Answers a request with a TCP reset."""
    lingering = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
    writer.transport.abort()


async def until(is_reached: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Return when something is so."""
    async with asyncio.timeout(within_s):
        while not is_reached():  # noqa: ASYNC110  # what it waits for tells nobody
            await asyncio.sleep(0.005)


# The service as a process


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ServiceProcess:
    """`python -m services.toolenv`, which a test may kill at any moment."""

    def __init__(self, home: Path, tools: Path, **settings: str) -> None:
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None
        self._settings = {
            **{name: value for name, value in os.environ.items() if name[:8] != "TOOLENV_"},
            "TOOLWRIGHT_HOME": str(home),
            "TOOLENV_TOOLS_ROOTS": str(tools),
            "TOOLENV_SOURCES": "replay,live",
            "TOOLENV_RECORD_SOURCES": "live",
            "TOOLENV_MAX_WAITING_CALLS": "1000",
            "TOOLENV_LIVE_RATE_PER_S": "10000",
            "TOOLENV_LIVE_BURST": "10000",
            **{f"TOOLENV_{name.upper()}": value for name, value in settings.items()},
        }
        self.log = home / "service.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, *, command: tuple[str, ...] = ("-m", "services.toolenv")) -> None:
        """Start it and wait until it can be called."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                "--port",
                str(port),
                cwd=REPOSITORY,
                env=self._settings,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(40), httpx.AsyncClient(trust_env=False) as http:
            while not await _is_ready(http, self.url):
                assert self._process.returncode is None, self.log.read_text("utf-8")[-2000:]
                await asyncio.sleep(0.03)

    async def kill(self) -> None:
        """End it as the kernel would; safe to repeat."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await asyncio.wait_for(self._process.wait(), 10)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def memory_peak_mb(self) -> float:
        """Largest resident memory so far."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    with suppress(httpx.TransportError):
        return (await http.get(f"{url}/readyz", timeout=5)).status_code == 200
    return False


@asynccontextmanager
async def running(service: ServiceProcess, **options: Any) -> AsyncIterator[ServiceProcess]:
    """A started service that is gone at the end of the context, whatever a test did to it."""
    try:
        await service.start(**options)
        yield service
    finally:
        await service.kill()


def client(*, connections: int = 100, timeout_s: float = 30.0) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(limits=limits, timeout=timeout_s, trust_env=False)


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


async def post(url: str, path: str, payload: Any, **headers: str) -> Reply:
    """Post JSON over a connection of its own: hundreds at once cost a client's pool seconds.

    Raises:
        ConnectionError: The service is gone, or went before its answer was whole.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    body = json.dumps(payload).encode()
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            lines += [f"Content-Length: {len(body)}", "", ""]
            writer.write("\r\n".join(lines).encode() + body)
            head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    first, *fields = head.decode("latin-1").split("\r\n")
    told = {key.lower(): value for key, _, value in (line.partition(": ") for line in fields)}
    if len(answer) != int(told.get("content-length", "-1")):
        raise ConnectionResetError("the answer is not whole")
    return Reply(int(first.split()[1]), told, answer)


def wire_payload(tool: str, api: str, **arguments: Any) -> dict[str, str]:
    """What ToolBench's client posts to `/virtual`."""
    return {
        "category": "Faults",
        "tool_name": tool,
        "api_name": api,
        "tool_input": json.dumps(arguments),
        "strip": "",
        "toolbench_key": "",
    }
