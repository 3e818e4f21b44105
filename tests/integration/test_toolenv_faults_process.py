"""The tool environment as a process that is killed, flooded, and whose clock jumps."""

import asyncio
import hashlib
import itertools
import json
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from services.contracts.apis import ApiRef
from services.toolenv.cassettes.rows import Filter
from services.toolenv.cassettes.store import Store, default_path
from tests.fakes.live_api import LiveApi, Received, answer, dropped, flood, serve_api, silent
from tests.integration.fault_world import (
    DAY_S,
    GRACE_S,
    LOOSE_CLOCK,
    Reply,
    ServiceProcess,
    client,
    post,
    running,
    until,
    wire_payload,
    write_live_tool,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

FLOOD_BYTES = 50 << 20
N_MISSES = 300
PART_BYTES = 1 << 20
MAX_GROWTH_MB = 400
DEADLINE_S = 1.2


class Acknowledged(NamedTuple):
    """An answer that its reply called recorded."""

    body: bytes
    key: str


class Counting:
    """An API whose every answer is another one, so that only a recording repeats it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        text = json.dumps({"number": next(self._numbers), "asked": request.target, "é": "ü" * 50})
        await answer(text)(request, writer)


@pytest.fixture
async def upstream() -> AsyncIterator[LiveApi]:
    async with serve_api(
        counting=Counting(), flood=flood(FLOOD_BYTES), silent=silent, dropped=dropped
    ) as api:
        yield api


@pytest.fixture
def service(tmp_path: Path, upstream: LiveApi) -> ServiceProcess:
    return new_service(tmp_path, upstream)


def new_service(folder: Path, upstream: LiveApi, **settings: str) -> ServiceProcess:
    write_live_tool(folder / "tools", upstream.url, "counting", "flood", "silent", "dropped")
    private = f"127.0.0.1:{upstream.port}"
    return ServiceProcess(folder / "home", folder / "tools", allow_private=private, **settings)


async def ask(url: str, text: str, *, sources: str) -> Reply:
    payload = wire_payload("live", "counting", q=text)
    return await post(url, f"/virtual?sources={sources}", payload)


async def record(url: str, text: str, known: dict[str, Acknowledged]) -> None:
    """Ask once, and note the answer if its reply says that it is in the record."""
    reply = await ask(url, text, sources="replay,live")
    is_replay = reply.headers.get("x-toolwright-source") == "replay"
    if is_replay or reply.headers.get("x-toolwright-recorded") == "True":
        known[text] = Acknowledged(reply.body, reply.headers["x-toolwright-key"])


async def assert_replayed(url: str, known: dict[str, Acknowledged]) -> None:
    """Every acknowledged answer comes back byte for byte, as a replay."""
    async with asyncio.TaskGroup() as group:
        tasks = {text: group.create_task(ask(url, text, sources="replay")) for text in known}
    for text, task in tasks.items():
        reply = task.result()
        assert reply.headers["x-toolwright-source"] == "replay"
        assert (reply.body, reply.headers["x-toolwright-key"]) == known[text]


# Killed in the middle of recording


async def press(
    service: ServiceProcess, names: "itertools.count[int]", known: dict[str, Acknowledged]
) -> None:
    """Record new answers with 16 clients until the service is gone."""

    async def press_on() -> None:
        while True:
            await record(service.url, f"q{next(names)}", known)

    pressing = [asyncio.create_task(press_on()) for _ in range(16)]
    ended, _ = await asyncio.wait(pressing, timeout=30)
    assert len(ended) == len(pressing)
    assert all(isinstance(task.exception(), ConnectionError) for task in ended)


async def test_services_killed_at_random_moments_replay_all_that_they_acknowledged(
    tmp_path: Path, upstream: LiveApi
) -> None:
    moments = random.Random(20_260_101)
    known: dict[str, Acknowledged] = {}
    names = itertools.count(1)

    async def kill_one(number: int) -> None:
        async with running(new_service(tmp_path, upstream)) as service:
            pressing = asyncio.create_task(press(service, names, known))
            await asyncio.sleep(moments.uniform(0.02, 0.5))
            await service.kill()
            await pressing

    for _round in range(2):  # what one round recorded, the next must open after the crash
        async with asyncio.TaskGroup() as group:  # several at once share the record
            for number in range(3):
                group.create_task(kill_one(number))
        assert known
    async with running(new_service(tmp_path, upstream)) as service:
        await assert_replayed(service.url, known)
        fresh = await ask(service.url, "after the last crash", sources="replay,live")
    assert fresh.headers["x-toolwright-recorded"] == "True"


async def crowd(url: str, known: dict[str, Acknowledged]) -> None:
    """Ask everything that is not acknowledged yet, all at once, as long as somebody answers."""
    missing = [f"m{number}" for number in range(N_MISSES) if f"m{number}" not in known]
    asking = [asyncio.create_task(record(url, text, known)) for text in missing]
    ended, _ = await asyncio.wait(asking, timeout=40)
    assert len(ended) == len(asking)
    assert all(isinstance(task.exception(), ConnectionError | None) for task in asking)


def entries(folder: Path) -> int:
    store = Store(default_path(folder / "home"))
    ref = ApiRef(category="Faults", tool="live", api="counting")
    try:
        return store.count(Filter(category=ref.category, tool=ref.tool, api=ref.api))
    finally:
        store.close()


async def test_300_misses_of_one_api_at_once_leave_300_entries_that_replay(
    tmp_path: Path, service: ServiceProcess, upstream: LiveApi
) -> None:
    known: dict[str, Acknowledged] = {}
    async with running(service):
        await crowd(service.url, known)
        assert len(known) == N_MISSES
        await assert_replayed(service.url, known)
    assert (entries(tmp_path), len(upstream.received)) == (N_MISSES, N_MISSES)


async def test_300_misses_at_once_lose_nothing_acknowledged_when_the_service_is_killed(
    tmp_path: Path, service: ServiceProcess
) -> None:
    known: dict[str, Acknowledged] = {}
    async with running(service):
        asking = asyncio.create_task(crowd(service.url, known))
        await until(lambda: len(known) >= 20)
        await service.kill()
        await asking
        survived = dict(known)
        await service.start()
        await assert_replayed(service.url, survived)
        await crowd(service.url, known)
        assert survived.items() <= known.items()
        assert len(known) == N_MISSES
        await assert_replayed(service.url, known)
    assert entries(tmp_path) == N_MISSES


# A flood


async def test_50_mb_in_one_line_are_kept_whole_in_bounded_memory(service: ServiceProcess) -> None:
    async with running(service), client() as http:
        await ask(service.url, "warm", sources="live")
        before_mb = service.memory_peak_mb()
        call = {"api": ref_of("flood"), "arguments_text": "{}", "sources": ["live"]}
        observation = json.loads((await post(service.url, "/v1/invoke", call)).body)
        whole = await read_back(http, service.url, observation["overflow_ref"])
        grown_mb = service.memory_peak_mb() - before_mb
        assert (await ask(service.url, "next", sources="live")).status == 200
    assert (observation["status"], observation["source"]) == ("output_limit", "live")
    assert json.loads(observation["content"])["response"].startswith('{"data": "aaaa')
    assert observation["overflow_ref"] == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert len(json.loads(whole)["data"]) == FLOOD_BYTES
    assert grown_mb < MAX_GROWTH_MB


def ref_of(api: str) -> dict[str, str]:
    return {"category": "Faults", "tool": "live", "api": api}


async def read_back(http: httpx.AsyncClient, url: str, ref: str) -> bytes:
    pieces, offset = [], 0
    while offset is not None:
        query = {"offset": offset, "limit": PART_BYTES}
        part = (await http.get(f"{url}/v1/overflow/{ref}", params=query)).json()
        pieces.append(part["text"].encode())
        offset = part["next_offset"]
    return b"".join(pieces)


# A clock that jumps


async def test_ages_are_never_negative_and_deadlines_hold_when_the_clock_jumps(
    service: ServiceProcess,
) -> None:
    async with running(service, command=LOOSE_CLOCK):
        first = await ask(service.url, "a", sources="replay,live")
        service.send_signal(signal.SIGUSR1)
        older = await ask(service.url, "a", sources="replay")
        service.send_signal(signal.SIGUSR2)
        younger = await ask(service.url, "a", sources="replay")
        written = await ask(service.url, "b", sources="replay,live")
    assert older.body == younger.body == first.body
    assert float(older.headers["x-toolwright-age"]) == pytest.approx(DAY_S, abs=20)
    assert float(younger.headers["x-toolwright-age"]) == 0.0
    assert written.headers["x-toolwright-recorded"] == "True"


async def test_a_deadline_on_the_wire_holds_when_the_clock_jumps_afterwards(
    service: ServiceProcess,
) -> None:
    async with running(service, command=LOOSE_CLOCK):
        forward = await late_call(service, signal.SIGUSR1, now=time.time())
        back = await late_call(service, signal.SIGUSR2, now=time.time() + DAY_S)
        following = await ask(service.url, "next", sources="live")
    assert forward.status == back.status == following.status == 200
    assert {json.loads(late.body)["status"] for late in (forward, back)} == {"timeout"}


async def late_call(service: ServiceProcess, jump: signal.Signals, *, now: float) -> Reply:
    """A call that nobody answers and whose deadline counts from the service's `now`."""
    call = {"api": ref_of("silent"), "arguments_text": "{}", "sources": ["live"]}
    deadline = {"X-Deadline": f"{now + DEADLINE_S:.3f}"}
    started = time.perf_counter()
    flight = asyncio.create_task(post(service.url, "/v1/invoke", call, **deadline))
    await asyncio.sleep(0.4)
    service.send_signal(jump)
    reply = await flight
    assert DEADLINE_S - 0.3 < time.perf_counter() - started < DEADLINE_S + GRACE_S
    return reply
