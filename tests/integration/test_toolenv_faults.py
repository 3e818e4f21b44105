"""Faults around a running tool environment: its processes die, its upstreams misbehave.

Every call ends in time with an answer or a typed error, and the next one is right.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.contracts.context import deadline_in
from services.contracts.toolenv import CallStatus, ToolCall
from services.kit.settings import SharedSettings
from services.toolenv import bootstrap
from services.toolenv.bootstrap import open_toolenv
from services.toolenv.sandbox import Sandbox
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from tests.fakes.certificates import make_authority
from tests.fakes.egress_upstream import Upstream, serve_upstream
from tests.fakes.live_api import LiveApi, answer, flood, serve_api, silent
from tests.integration.fault_world import (
    DAY_S,
    GRACE_S,
    Outcome,
    answer_of,
    http_api,
    reset,
    timed_call,
    tool_call,
    until,
    write_live_tool,
    write_tool,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

DEADLINE_S = 1.0
METADATA = "http://169.254.169.254/latest/meta-data/"
PATHS = ("fine", "silent", "metadata", "reset")
HTML = "<!doctype html><title>x</title><h1>It works!</h1>"

PLAIN_NAMES = ("fine", "slow", "crash", "for_ever")
PLAIN_CODE = """
import os, time

def fine(q="here"):
    return q

def slow(q=""):
    time.sleep(0.8)
    return q

def crash(q=""):
    os._exit(7)

def for_ever(q=""):
    while True:
        time.sleep(0.01)
"""
WEB_CODE = """
import requests

BASE = {url!r}

def fetch(path):
    reply = requests.get(BASE + "/" + path)
    try:
        return reply.json()
    except ValueError:
        return reply.text

def stubborn(path):
    while True:
        try:
            return requests.get(BASE + "/" + path, timeout=None).text
        except requests.RequestException:
            pass
"""


class World(NamedTuple):
    env: ToolEnvService
    sandbox: Sandbox
    upstream: LiveApi


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def opened_sandboxes() -> Iterator[list[Sandbox]]:
    """Sandboxes that the service opens, in order; it lends them to nobody."""
    opened: list[Sandbox] = []
    real = bootstrap.open_sandbox

    @asynccontextmanager
    async def noting(**options: Any) -> AsyncIterator[Sandbox]:
        async with real(**options) as sandbox:
            opened.append(sandbox)
            yield sandbox

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "open_sandbox", noting)
        yield opened


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[LiveApi]:
    async with serve_api(
        fine=answer('{"ok": true}'),
        silent=silent,
        html=answer(HTML, content_type="text/html"),
        fake_json=answer(HTML, content_type="application/json"),
        flood=flood(50 << 20),
        metadata=answer("", status=302, location=METADATA),
        reset=reset,
        slow=answer('{"ok": "slow"}', delay_s=0.8),
    ) as api:
        yield api


@pytest.fixture(scope="module")
async def secure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Upstream]:
    """A server whose certificate nobody here trusts."""
    authority = make_authority(tmp_path_factory.mktemp("tls"), "127.0.0.1")
    async with serve_upstream(authority.server_context) as server:
        yield server


@pytest.fixture(scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory,
    upstream: LiveApi,
    secure: Upstream,
    opened_sandboxes: list[Sandbox],
) -> AsyncIterator[World]:
    home, tools = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("tools")
    write_tools(tools, upstream.url, f"https://127.0.0.1:{secure.port}")
    settings = ToolEnvSettings(
        tools_roots=(tools,),
        user_tools=False,
        sources=("custom", "live"),
        record_sources=("custom", "live"),
        allow_private=frozenset({f"127.0.0.1:{upstream.port}", f"127.0.0.1:{secure.port}"}),
        sandbox_zygotes=2,
        live_rate_per_s=1000.0,
        live_burst=1000,
    )
    async with open_toolenv(settings, SharedSettings(toolwright_home=home)) as env:
        yield World(env, opened_sandboxes[-1], upstream)


def write_tools(root: Path, url: str, secure_url: str) -> None:
    write_live_tool(root, url, *PATHS)
    promised = {"template_response": {"ok": "bool"}}
    html = {name: {**http_api(f"{url}/{name}"), **promised} for name in ("html", "fake_json")}
    write_tool(root, "pages", html)
    write_tool(root, "secure", {"untrusted": http_api(f"{secure_url}/echo")})
    plain = {name: {"optional_parameters": [{"name": "q"}]} for name in PLAIN_NAMES}
    write_tool(root, "plain", plain, code=PLAIN_CODE)
    web = {name: {**_web_api(url), **promised} for name in ("fetch", "stubborn")}
    write_tool(root, "web", web, code=WEB_CODE.format(url=url))
    secure_web = {"fetch": _web_api(secure_url)}
    write_tool(root, "secure_web", secure_web, code=WEB_CODE.format(url=secure_url))


def _web_api(url: str) -> dict[str, Any]:
    return {**http_api(url), "required_parameters": [{"name": "path"}]}


def strays() -> list[int]:
    """Process ids of all living descendants, youngest last.

    Dead ones that nobody has waited for yet, of other tests too, stay in the kernel's lists.
    """
    found, waiting = [], deque([os.getpid()])
    while waiting:
        pid = waiting.popleft()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        except OSError:
            continue
        found += [int(child) for child in children]
        waiting += [int(child) for child in children]
    return [pid for pid in found if not is_dead(pid)]


def is_dead(pid: int) -> bool:
    """Whether a process has ended, be it waited for or not."""
    try:
        state = (
            Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
        )
    except OSError:
        return True
    return state in ("Z", "X")


async def all_outcomes(env: ToolEnvService, calls: Sequence[ToolCall]) -> list[Outcome]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(timed_call(env, call, deadline_s=5.0)) for call in calls]
    return [task.result() for task in tasks]


# Processes that die


@pytest.mark.parametrize("shard", [0, 1])
async def test_a_zygote_killed_during_calls_ends_each_with_an_answer_or_a_typed_error(
    world: World, shard: int
) -> None:
    await until(lambda: None not in world.sandbox.zygote_pids)
    calls = [tool_call("plain/slow", q=f"n{number}") for number in range(4)]
    flight = asyncio.create_task(all_outcomes(world.env, calls))
    await asyncio.sleep(0.3)
    os.kill(world.sandbox.zygote_pids[shard], signal.SIGKILL)
    outcomes = await flight
    kinds = {outcome.kind for outcome in outcomes}
    assert kinds <= {"ok", "Unavailable"}
    answers = [outcome.observation for outcome in outcomes if outcome.observation is not None]
    assert all(json.loads(one.content)["response"][0] == "n" for one in answers)
    assert answers  # the other shard's calls
    assert await answer_of(world.env, tool_call("plain/fine", q="next")) == "next"


async def test_all_zygotes_killed_at_once_cost_the_calls_in_flight_only(world: World) -> None:
    await until(lambda: None not in world.sandbox.zygote_pids)
    calls = [tool_call("plain/slow", q=str(number)) for number in range(8)]
    flight = asyncio.create_task(all_outcomes(world.env, calls))
    await asyncio.sleep(0.2)
    for pid in world.sandbox.zygote_pids:
        os.kill(pid, signal.SIGKILL)
    assert {outcome.kind for outcome in await flight} <= {"ok", "Unavailable"}
    assert await answer_of(world.env, tool_call("plain/fine", q="next")) == "next"


async def test_every_helper_process_killed_at_once_is_survived(world: World) -> None:
    await answer_of(world.env, tool_call("web/fetch", path="fine"))
    calls = [tool_call("web/fetch", path="slow"), tool_call("plain/slow")]
    seen = len(world.upstream.received)
    flight = asyncio.create_task(all_outcomes(world.env, calls))
    await until(lambda: len(world.upstream.received) > seen)
    killed = strays()
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):  # it died with the one before
            os.kill(pid, signal.SIGKILL)
    await flight
    await until(lambda: not set(killed) & set(strays()))
    assert await answer_of(world.env, tool_call("plain/fine", q="next")) == "next"
    assert await answer_of(world.env, tool_call("web/fetch", path="fine")) == {"ok": True}


async def test_a_broker_killed_during_a_request_is_a_failed_request_that_nobody_records(
    world: World,
) -> None:
    await answer_of(world.env, tool_call("web/fetch", path="fine"))
    call = tool_call("web/fetch", path="slow")
    seen = len(world.upstream.received)
    flight = asyncio.create_task(timed_call(world.env, call, deadline_s=5.0))
    await until(lambda: len(world.upstream.received) > seen)
    os.kill(world.sandbox.broker_pid, signal.SIGKILL)
    outcome = await flight
    assert (outcome.kind, outcome.observation.is_recorded) == ("request_failed", None)
    assert "egress broker ended" in outcome.observation.content
    assert await answer_of(world.env, tool_call("web/fetch", path="fine")) == {"ok": True}


# Upstreams that misbehave


@pytest.mark.parametrize(
    ("ref", "arguments", "status"),
    [
        ("live/silent", {}, CallStatus.TIMEOUT),
        ("web/fetch", {"path": "silent"}, CallStatus.TIMEOUT),
        ("web/stubborn", {"path": "silent"}, CallStatus.TIMEOUT),
        ("plain/for_ever", {}, CallStatus.TIMEOUT),
    ],
)
async def test_an_upstream_that_never_answers_is_a_typed_answer_in_time(
    world: World, ref: str, arguments: dict[str, str], status: CallStatus
) -> None:
    outcome = await timed_call(world.env, tool_call(ref, **arguments), deadline_s=DEADLINE_S)
    assert (outcome.kind, outcome.observation.is_recorded) == (status.value, None)
    assert json.loads(outcome.observation.content)["error"]
    assert await answer_of(world.env, tool_call("live/fine")) == {"ok": True}


@pytest.mark.parametrize("path", ["html", "fake_json"])
async def test_html_under_status_200_is_no_answer_where_json_was_promised(
    world: World, path: str
) -> None:
    outcome = await timed_call(world.env, tool_call(f"pages/{path}"), deadline_s=DEADLINE_S)
    assert (outcome.kind, outcome.observation.upstream_status) == ("request_failed", 200)
    assert "It works!" in outcome.observation.content
    assert await answer_of(world.env, tool_call("live/fine")) == {"ok": True}


async def test_html_under_status_200_is_text_to_a_tool_s_own_code(world: World) -> None:
    call = tool_call("web/fetch", path="html")
    outcome = await timed_call(world.env, call, deadline_s=DEADLINE_S)
    assert (outcome.kind, outcome.observation.source) == ("request_failed", "custom")
    assert "It works!" in outcome.observation.content


@pytest.mark.parametrize(
    ("ref", "arguments", "status"),
    [
        ("live/metadata", {}, CallStatus.API_NOT_WORKING),
        ("web/fetch", {"path": "metadata"}, CallStatus.API_NOT_WORKING),
    ],
)
async def test_a_redirect_to_the_metadata_service_is_refused_and_named(
    world: World, ref: str, arguments: dict[str, str], status: CallStatus
) -> None:
    outcome = await timed_call(world.env, tool_call(ref, **arguments), deadline_s=DEADLINE_S)
    assert outcome.kind == status.value
    assert "egress refused" in outcome.observation.content
    assert "169.254.169.254" in outcome.observation.content
    assert await answer_of(world.env, tool_call("live/fine")) == {"ok": True}


@pytest.mark.parametrize(
    ("ref", "arguments", "status"),
    [
        ("live/reset", {}, CallStatus.REQUEST_FAILED),
        ("web/fetch", {"path": "reset"}, CallStatus.REQUEST_FAILED),
        ("secure/untrusted", {}, CallStatus.API_NOT_WORKING),
        ("secure_web/fetch", {"path": "echo"}, CallStatus.REQUEST_FAILED),
    ],
)
async def test_a_reset_and_a_certificate_nobody_knows_are_typed_answers(
    world: World, ref: str, arguments: dict[str, str], status: CallStatus
) -> None:
    outcome = await timed_call(world.env, tool_call(ref, **arguments), deadline_s=DEADLINE_S)
    assert (outcome.kind, outcome.observation.is_recorded) == (status.value, None)
    assert "127.0.0.1" in outcome.observation.content
    assert await answer_of(world.env, tool_call("live/fine")) == {"ok": True}


async def test_a_flood_ends_the_tool_s_request_with_the_limit_in_its_error(world: World) -> None:
    outcome = await timed_call(world.env, tool_call("web/fetch", path="flood"), deadline_s=5.0)
    assert (outcome.kind, outcome.observation.is_recorded) == ("request_failed", None)
    assert "limit of 1048576 bytes" in outcome.observation.content
    assert await answer_of(world.env, tool_call("web/fetch", path="fine")) == {"ok": True}


# Siblings and clocks


async def test_siblings_keep_their_results_and_order_whatever_happens_to_the_others(
    world: World,
) -> None:
    calls = [
        tool_call("live/silent"),
        tool_call("plain/crash"),
        tool_call("plain/nothing_here"),
        tool_call("live/reset"),
        tool_call("plain/fine", q="kept"),
    ]
    with deadline_in(DEADLINE_S):
        results = await asyncio.wait_for(world.env.invoke_many(calls), DEADLINE_S + GRACE_S)
    late, crashed, unknown, broken, kept = results
    assert late.observation.status is CallStatus.TIMEOUT
    assert crashed.observation.status is CallStatus.RESOURCE_LIMIT
    assert (unknown.problem.status, unknown.observation) == (404, None)
    assert broken.observation.status is CallStatus.REQUEST_FAILED
    assert json.loads(kept.observation.content)["response"] == "kept"


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
@pytest.mark.parametrize("ref", ["live/silent", "plain/for_ever"])
async def test_a_clock_that_jumps_during_a_call_leaves_its_deadline_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, ref: str, jump_s: float
) -> None:
    wall = time.time
    flight = asyncio.create_task(timed_call(world.env, tool_call(ref), deadline_s=0.8))
    await asyncio.sleep(0.3)
    monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
    outcome = await flight
    assert outcome.kind == "timeout"
    assert outcome.took_s >= 0.75
    assert 0.0 <= outcome.observation.latency_s < 2.0
    assert await answer_of(world.env, tool_call("plain/fine", q="next")) == "next"
