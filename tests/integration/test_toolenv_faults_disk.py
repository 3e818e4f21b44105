"""A home folder that is full or cannot be written: answers still come, and what was kept stays."""

import asyncio
import json
import os
import re
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.contracts.apis import ApiRef
from services.contracts.errors import ServiceError, Unavailable
from services.contracts.toolenv import CallStatus, Observation
from services.kit.settings import SharedSettings
from services.toolenv.bootstrap import open_toolenv
from services.toolenv.credentials import CredentialInfo, CredentialStore
from services.toolenv.pins import Pins
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from tests.fakes.live_api import LiveApi, Received, answer, flood, serve_api
from tests.integration.fault_world import (
    ServiceProcess,
    answer_of,
    http_api,
    post,
    running,
    timed_call,
    tool_call,
    wire_payload,
    write_live_tool,
    write_tool,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

LONG = 200_000
SECRET = CredentialInfo(name="weather")


async def long_echo(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answers at length, with what it was asked."""
    text = json.dumps({"asked": request.target, "padding": "x" * LONG})
    await answer(text)(request, writer)


@pytest.fixture
async def upstream() -> AsyncIterator[LiveApi]:
    async with serve_api(echo=long_echo, flood=flood(3 << 20)) as api:
        yield api


@pytest.fixture
def tiny_home(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 4 MB, as only root can make one."""
    home = tmp_path / "home"
    home.mkdir()
    if os.geteuid() != 0 or not mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(home)):
        pytest.skip("needs root and the right to mount a tmpfs")
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True, timeout=20)


def mounted(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


@asynccontextmanager
async def opened(
    home: Path, upstream: LiveApi, tools: Path, **changes: Any
) -> AsyncIterator[ToolEnvService]:
    """The environment with a tool of the operator's, and whatever users have in their folder."""
    write_live_tool(tools, upstream.url, "echo", "flood")
    settings: dict[str, Any] = {
        "tools_roots": (tools,),
        "sources": ("replay", "live"),
        "record_sources": ("live",),
        "allow_private": frozenset({f"127.0.0.1:{upstream.port}"}),
    }
    async with open_toolenv(
        ToolEnvSettings(**{**settings, **changes}), SharedSettings(toolwright_home=home)
    ) as env:
        yield env


def fill(home: Path) -> Path:
    """A file that leaves no room."""
    filler = home / "filler"
    with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
        while True:
            stream.write(bytes(4096))
    return filler


async def observed(env: ToolEnvService, text: str, **options: Any) -> Observation:
    outcome = await timed_call(env, tool_call("live/echo", q=text, **options), deadline_s=5.0)
    assert outcome.observation is not None, outcome.error
    assert outcome.observation.status is CallStatus.OK, outcome.observation.content[:300]
    assert f"q={text}" in outcome.observation.content
    return outcome.observation


async def assert_replayed(env: ToolEnvService, texts: list[str]) -> None:
    for text in texts:
        replayed = await observed(env, text, sources=("replay",))
        assert replayed.source == "replay"


async def test_a_full_disk_costs_recordings_and_nothing_else(
    tiny_home: Path, tmp_path: Path, upstream: LiveApi
) -> None:
    own = tiny_home / "toolenv"
    CredentialStore(own).set(SECRET, SecretStr("the-old-secret"))
    write_tool(tiny_home / "tools", "mine", {"one": http_api(f"{upstream.url}/echo")})
    async with opened(tiny_home, upstream, tmp_path / "tools") as env:
        kept = [text for text in ("a1", "a2") if (await observed(env, text)).is_recorded]
        await env.health()
        filler = fill(tiny_home)
        while_full = [await observed(env, f"b{number}") for number in range(4)]
        long = await timed_call(env, tool_call("live/flood"), deadline_s=5.0)
        full_health = await env.health()
        with pytest.raises(Unavailable, match="No space left"):
            CredentialStore(own).set(SECRET, SecretStr("the-new-secret"))
        write_live_tool(tmp_path / "tools", upstream.url, "echo", tool="unpinned")
        await env.reload()
        mine = await answer_of(env, tool_call("mine/one", q="c"))
        filler.unlink()
        after = await observed(env, "d1")
        healthy = {str(health.ref): health.calls for health in await env.health()}
    assert kept == ["a1", "a2"]
    assert {one.is_recorded for one in while_full} == {False}
    assert (long.kind, long.observation.overflow_ref) == ("output_limit", None)
    assert "No space left" in long.observation.content
    assert [str(health.ref) for health in full_health] != []
    assert mine["asked"] == "/echo?q=c"
    assert after.is_recorded is True
    assert healthy["Faults/live/echo"] == 7
    async with opened(tiny_home, upstream, tmp_path / "tools") as env:
        await assert_replayed(env, [*kept, "d1"])
        reopened = {str(health.ref): health.calls for health in await env.health()}
        assert reopened == healthy
    assert CredentialStore(own).lookup("weather") == SecretStr("the-old-secret")
    assert set(Pins(own).read()) == {"Faults/mine"}


async def test_a_tool_that_cannot_be_pinned_is_refused_and_the_others_stay(
    tiny_home: Path, tmp_path: Path, upstream: LiveApi
) -> None:
    users = tiny_home / "tools"
    write_tool(users, "mine", {"one": http_api(f"{upstream.url}/echo")})
    async with opened(tiny_home, upstream, tmp_path / "tools") as env:
        write_tool(users, "late", {"one": http_api(f"{upstream.url}/echo")})
        filler = fill(tiny_home)
        refused = await env.reload()
        await answer_of(env, tool_call("mine/one"))
        filler.unlink()
        added = await env.reload()
    assert refused.added == ()
    assert any("Faults/late is not offered" in reason for reason in refused.refused)
    assert added.added == (ApiRef.parse("Faults/late/one"),)


@pytest.fixture
def read_only_home(tiny_home: Path) -> Path:
    assert mounted("-o", "remount,ro", str(tiny_home))
    return tiny_home


async def test_a_home_that_cannot_be_written_serves_what_needs_no_file(
    read_only_home: Path, tmp_path: Path, upstream: LiveApi
) -> None:
    changes = {"sources": ("live",), "record_sources": (), "user_tools": False}
    async with opened(read_only_home, upstream, tmp_path / "tools", **changes) as env:
        first = await observed(env, "a")
        long = await timed_call(env, tool_call("live/flood"), deadline_s=5.0)
        health = await env.health()
    assert (first.is_recorded, long.kind) == (None, "output_limit")
    assert "Read-only file system" in long.observation.content
    assert {str(one.ref): one.calls for one in health}["Faults/live/echo"] == 1


@pytest.mark.parametrize(
    "changes", [{"user_tools": False}, {"record_sources": (), "sources": ("live",)}]
)
async def test_a_home_that_cannot_be_written_is_named_when_a_part_needs_it(
    read_only_home: Path, tmp_path: Path, upstream: LiveApi, changes: dict[str, Any]
) -> None:
    with pytest.raises(ServiceError, match=re.escape(str(read_only_home))):
        async with opened(read_only_home, upstream, tmp_path / "tools", **changes):
            pass


async def test_files_that_may_not_grow_cost_recordings_and_log_lines_but_no_answer(
    tmp_path: Path, upstream: LiveApi
) -> None:
    write_live_tool(tmp_path / "tools", upstream.url, "echo")
    private = f"127.0.0.1:{upstream.port}"
    service = ServiceProcess(tmp_path / "home", tmp_path / "tools", allow_private=private)

    async def recorded(text: str) -> tuple[int, str | None]:
        payload = wire_payload("live", "echo", q=text)
        reply = await post(service.url, "/virtual?sources=live", payload)
        return reply.status, reply.headers.get("x-toolwright-recorded")

    async with running(service):
        before = await recorded("a")
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        during = [await recorded(f"b{number}") for number in range(3)]
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, unlimited)
        after = await recorded("c")
        replies = [
            await post(service.url, "/virtual?sources=replay", wire_payload("live", "echo", q=text))
            for text in ("a", "c")
        ]
    assert before == after == (200, "True")
    assert during == [(200, "False")] * 3
    assert {reply.headers["x-toolwright-source"] for reply in replies} == {"replay"}
