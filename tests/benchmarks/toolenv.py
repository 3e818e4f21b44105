"""Replay hits of `/virtual` against a bare FastAPI route, side by side in one run.

    python tests/benchmarks/toolenv.py [--quick] [--rounds N]

Each server is one uvicorn process on loopback without an access log: one whose route parses the
same JSON and returns a constant, and the tool environment with a record of 5, of 2,000 and of
1,000,000 entries. One light client keeps 64 requests in flight, in short rounds that take the
servers in turn, so a noisy machine slows all of them; ratios compare rounds next to each other. The
last line of stdout is JSON.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import uvicorn
import uvloop
from fastapi import FastAPI, Request

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef
from services.contracts.toolenv import CallStatus
from services.kit.app import create_app
from services.kit.logging import configure_logging
from services.toolenv.admission import Admission
from services.toolenv.cassettes.key import key_of
from services.toolenv.cassettes.recording import Recording
from services.toolenv.cassettes.store import Store
from services.toolenv.catalog import Catalogue, CatalogueEntry
from services.toolenv.chain import Chain
from services.toolenv.executors.replay import ReplayExecutor
from services.toolenv.registry import Registry
from services.toolenv.service import ToolEnvService
from services.toolenv.wire import add_wire, wire_router

CONCURRENCY = 64
SIZES = {"5": 5, "2k": 2_000, "1m": 1_000_000}
MIN_ROUNDS = 3
QUICK_S = 26.0  # what is left of 40 s pays for starting and stopping
MAX_DISTINCT = 50_000  # requests sent to one server; more would fill the client's memory
REF = ApiRef(category="Weather", tool="weather_station", api="daily_forecast")
GOALS = """goals: replay_to_bare_route_ratio >= 0.6; replay_1m_to_2k_ratio and \
replay_5_to_2k_ratio within 0.9..1.1
recorded elsewhere, another machine and day: the reference's server made 811 hits/s from 5 entries,
1142/s from 100 and 68/s from 2,000 at concurrency 64 (p50 70, 52 and 846 ms)"""


def arguments_of(number: int) -> str:
    """Canonical JSON of the n-th recorded call's arguments."""
    return f'{{"city":"town-{number}","days":{number % 14 + 1},"unit":"metric"}}'


def content_of(number: int) -> str:
    days = [{"day": day, "high": 20 + day, "low": 9, "text": "sunny spells"} for day in range(1)]
    return json.dumps({"error": "", "response": {"city": f"town-{number}", "forecast": days}})


def recordings(size: int) -> Iterator[Recording]:
    # Made without the general functions: a million entries have to be there within seconds.
    fixed = (CallStatus.OK, "live", 200, 0.2, time.time())
    before, after = content_of(0).split("town-0")
    for number in range(size):
        arguments = arguments_of(number)
        yield Recording(
            key_of(REF.category, REF.tool, REF.api, arguments.encode()),
            REF.category,
            REF.tool,
            REF.api,
            arguments,
            f"{before}town-{number}{after}",
            *fixed,
        )


def fill(path: Path, size: int) -> float:
    """Make a record; seconds that took."""
    started = time.perf_counter()
    store = Store(path)
    try:
        added = store.put_many(recordings(size))
    finally:
        store.close()
    if added.added != size:
        raise RuntimeError(f"{added.added} of {size} entries were recorded")
    return time.perf_counter() - started


def bare_app() -> FastAPI:
    app = FastAPI()
    constant = json.loads(content_of(0))

    @app.post("/virtual")
    async def virtual(request: Request) -> dict[str, object]:
        await request.json()
        return constant

    return app


def toolenv_app(path: Path) -> FastAPI:
    parameters = (ApiParameter(name="city"), ApiParameter(name="days"), ApiParameter(name="unit"))
    document = ApiDocument(
        ref=REF,
        category_name=REF.category,
        tool_name="Weather Station",
        api_name="Daily Forecast",
        required_parameters=parameters,
    )

    @asynccontextmanager
    async def open_service() -> AsyncIterator[ToolEnvService]:
        store = Store(path)
        yield ToolEnvService(
            registry=Registry.fixed(Catalogue([CatalogueEntry(document)])),
            chain=Chain([ReplayExecutor([store])]),
            admission=Admission(max_running=512, max_waiting=256),
        )
        store.close()

    def service_of(request: Request) -> ToolEnvService:
        return request.state.service

    app = create_app(title="bench", routers=[], open_service=open_service)
    add_wire(app, wire_router(service_of))
    return app


def serve_child(path: str, descriptor: int) -> None:
    configure_logging("INFO")
    app = toolenv_app(Path(path)) if path else bare_app()
    config = uvicorn.Config(app, access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


class Server(NamedTuple):
    port: int
    pid: int

    def cpu_s(self) -> float:
        """Seconds of processor time used so far."""
        text = Path(f"/proc/{self.pid}/schedstat").read_text(encoding="ascii")
        return int(text.split()[0]) / 1e9


@contextlib.contextmanager
def serving(path: str) -> Iterator[Server]:
    """A server in a process of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        descriptor = listener.fileno()
        command = [sys.executable, __file__, "--serve", path, "--descriptor", str(descriptor)]
        with subprocess.Popen(command, pass_fds=[descriptor], stderr=subprocess.DEVNULL) as process:
            try:
                yield Server(listener.getsockname()[1], process.pid)
            finally:
                process.terminate()


class Connection(asyncio.Protocol):
    """Sends one request after another from `begin` until a point in time."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._until = 0.0
        self._received = b""
        self._sent_at = 0.0
        self.latencies_s: list[float] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def begin(self, until: float) -> None:
        self._until = until
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < length_of(head):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self._transport.close()
            self.ended.set_exception(RuntimeError(f"answer {self._received[:300]!r}"))
            return
        self._received = b""
        now = time.perf_counter()
        self.latencies_s.append(now - self._sent_at)
        if now < self._until:
            self._send()
        else:
            self._transport.close()
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"the server hung up: {exc}"))


def length_of(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r", 1)[0])


class Round(NamedTuple):
    per_s: float
    cpu_us: float
    """Processor time of the server's main thread for one request."""
    p50_ms: float
    p99_ms: float


async def drive(server: Server, requests: Iterator[bytes], seconds: float) -> Round:
    """One round with `CONCURRENCY` requests in flight."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds + 30):
        made = [
            await loop.create_connection(lambda: Connection(requests), "127.0.0.1", server.port)
            for _ in range(CONCURRENCY)
        ]
        cpu_s = server.cpu_s()
        started = time.perf_counter()
        for _, connection in made:
            connection.begin(started + seconds)
        for _, connection in made:
            await connection.ended
    elapsed = time.perf_counter() - started
    cpu_s = server.cpu_s() - cpu_s
    times = sorted(t for _, connection in made for t in connection.latencies_s)
    return Round(
        per_s=len(times) / elapsed,
        cpu_us=cpu_s / len(times) * 1e6,
        p50_ms=times[len(times) // 2] * 1e3,
        p99_ms=times[-len(times) // 100] * 1e3,
    )


def request_of(number: int) -> bytes:
    """What the reference's client sends for the n-th call."""
    payload = {
        "category": "Weather",
        "tool_name": "weather_station",
        "api_name": "daily_forecast",
        "tool_input": json.dumps(json.loads(arguments_of(number))),
        "strip": "truncate",
        "toolbench_key": "key",
    }
    body = json.dumps(payload).encode()
    head = (
        "POST /virtual HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: python-requests/2.32\r\n"
        "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n"
        f"toolbench_key: key\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/json\r\n\r\n"
    )
    return head.encode() + body


def requests_for(size: int) -> Iterator[bytes]:
    chosen = random.Random(7).sample(range(size), min(size, MAX_DISTINCT))
    return itertools.cycle([request_of(number) for number in chosen])


async def check(port: int, is_ours: bool) -> None:
    """Wait until a server answers; what ours says is the recorded reply, byte for byte."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_of(3))
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(length_of(head))
        writer.close()
    if is_ours and not (body == content_of(3).encode() and b"x-toolwright-source: replay" in head):
        raise RuntimeError(f"no replay hit: {head!r} {body!r}")


async def measure(
    servers: dict[str, Server], *, rounds: int, seconds: float
) -> dict[str, list[Round]]:
    pools = {name: requests_for(SIZES.get(name, SIZES["2k"])) for name in servers}
    found: dict[str, list[Round]] = {name: [] for name in servers}
    for name, server in servers.items():
        await check(server.port, name in SIZES)
        await drive(server, pools[name], 0.2)
    for number in range(rounds):
        # Every other round backwards, so that a drift of the machine favours nobody.
        for name in list(servers)[:: 1 if number % 2 else -1]:
            found[name].append(await drive(servers[name], pools[name], seconds))
    return found


def summarize(found: dict[str, list[Round]]) -> dict[str, float]:
    def ratio(name: str, other: str, field: str = "per_s") -> float:
        pairs = zip(found[name], found[other], strict=True)
        return statistics.median(getattr(one, field) / getattr(two, field) for one, two in pairs)

    def median(name: str, field: str) -> float:
        return statistics.median(getattr(one, field) for one in found[name])

    return {
        "replay_hit_per_s": median("2k", "per_s"),
        "replay_hit_p50_ms": median("2k", "p50_ms"),
        "replay_hit_p99_ms": median("2k", "p99_ms"),
        "replay_5_per_s": median("5", "per_s"),
        "replay_1m_per_s": median("1m", "per_s"),
        "bare_route_per_s": median("bare", "per_s"),
        "bare_route_p50_ms": median("bare", "p50_ms"),
        "bare_route_p99_ms": median("bare", "p99_ms"),
        "replay_cpu_us": median("2k", "cpu_us"),
        "bare_route_cpu_us": median("bare", "cpu_us"),
        "bare_route_to_replay_cpu_ratio": ratio("bare", "2k", "cpu_us"),
        "replay_to_bare_route_ratio": ratio("2k", "bare"),
        "replay_1m_to_2k_ratio": ratio("1m", "2k"),
        "replay_5_to_2k_ratio": ratio("5", "2k"),
        "replay_2k_to_1m_cpu_ratio": ratio("2k", "1m", "cpu_us"),
    }


def run(rounds: int, seconds: float, *, until: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        paths = {name: Path(home, f"{name}.sqlite") for name in SIZES}
        filled_s = {name: fill(paths[name], size) for name, size in SIZES.items()}
        servers = {"bare": stack.enter_context(serving(""))}
        servers |= {name: stack.enter_context(serving(str(path))) for name, path in paths.items()}
        # A slow machine loads the large record late and has time for fewer rounds.
        left_s = until - time.monotonic()
        rounds = max(MIN_ROUNDS, min(rounds, int(left_s / (len(servers) * (seconds + 0.05)))))
        found = uvloop.run(measure(servers, rounds=rounds, seconds=seconds))
        return summarize(found) | {"record_1m_load_s": filled_s["1m"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 40 seconds")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one round")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--descriptor", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve_child(options.serve, options.descriptor)
        return
    started = time.monotonic()
    if options.quick:
        figures = run(7, 0.4, until=started + QUICK_S)
    else:
        figures = run(options.rounds, options.seconds, until=started + 3600)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    for name, value in figures.items():
        print(f"{name:30s} {value:10.3f}")
    print(GOALS)
    print(json.dumps({"bench": "toolenv", "figures": figures, "machine": machine}))


if __name__ == "__main__":
    main()
