"""Redis and the worker as children: told of their end, and never left behind."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis.asyncio as redis

from infra.embedded import processes
from infra.embedded.processes import celery_worker, private_redis
from services.contracts.errors import FailedPrecondition, Unavailable
from tests.fakes.queue_world import children_of, is_alive, wait_until

pytestmark = pytest.mark.anyio
_LIMIT_S = 40.0
_HOST = """
import asyncio, sys
from pathlib import Path
from fastapi import FastAPI
from infra.embedded.processes import celery_worker, private_redis
from infra.embedded.server import serve_socket

async def main():
    home = Path(sys.argv[1])
    socket = home / "planner.sock"
    async with serve_socket(FastAPI(), socket), private_redis(home) as url:
        async with celery_worker(home=home, redis_url=url, planner_socket=socket, concurrency=1):
            await asyncio.sleep(300)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""


def socket_of(url: str) -> Path:
    return Path(url.removeprefix("redis+socket://"))


def socket_mode(url: str) -> int:
    return stat.S_IMODE(socket_of(url).stat().st_mode)


def below(pid: int) -> list[int]:
    return [deep for child in children_of(pid) for deep in (child, *below(child))]


@pytest.fixture
def elder_children() -> list[int]:
    """Children that were there before the test: a system that other tests share, say."""
    return children_of(os.getpid())


def new_children(elder: list[int]) -> list[int]:
    return [pid for pid in children_of(os.getpid()) if pid not in elder]


async def test_redis_is_private_and_gone_after_the_block(
    tmp_path: Path, elder_children: list[int]
) -> None:
    async with private_redis(tmp_path) as url:
        async with redis.Redis(unix_socket_path=str(socket_of(url))) as client:
            assert await client.ping()
            assert (await client.config_get("port"))["port"] == "0"
        (pid,) = new_children(elder_children)
        assert socket_mode(url) == 0o600
    assert not is_alive(pid)


async def test_two_systems_have_a_redis_each(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as first, private_redis(tmp_path) as second:
        async with redis.Redis(unix_socket_path=str(socket_of(first))) as client:
            await client.set("mine", 1)
        async with redis.Redis(unix_socket_path=str(socket_of(second))) as client:
            assert await client.get("mine") is None


async def test_the_end_of_redis_interrupts_the_block_with_its_log(
    tmp_path: Path, elder_children: list[int]
) -> None:
    async with asyncio.timeout(_LIMIT_S):
        with pytest.raises(Unavailable, match="redis-server ended with status -9"):
            async with private_redis(tmp_path):
                os.kill(new_children(elder_children)[0], signal.SIGKILL)
                await asyncio.sleep(_LIMIT_S)


async def test_an_error_of_the_block_passes_unchanged(
    tmp_path: Path, elder_children: list[int]
) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with private_redis(tmp_path):
            raise KeyError("mine")
    assert new_children(elder_children) == []


async def test_a_redis_that_refuses_its_options_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "find_redis_server", lambda: "/bin/false")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="redis-server ended with status 1"):
        async with private_redis(tmp_path):
            pass
    assert time.monotonic() - started < processes._REDIS_START_S


async def test_a_long_folder_for_temporary_files_is_refused_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = str(tmp_path / ("d" * 100))
    os.mkdir(deep)
    monkeypatch.setattr(processes.tempfile, "tempdir", deep)
    with pytest.raises(FailedPrecondition, match="the limit is 107; set TMPDIR"):
        async with private_redis(tmp_path):
            pass


async def test_a_worker_that_cannot_start_is_reported_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALUATOR_MAX_DELIVERIES", "3")
    real = processes._worker_environment

    def broken(*args: Path) -> dict[str, str]:
        return real(*args) | {"EVALUATOR_MAX_DELIVERIES": "none"}  # type: ignore[arg-type]

    monkeypatch.setattr(processes, "_worker_environment", broken)
    async with asyncio.timeout(_LIMIT_S):
        with pytest.raises(Unavailable, match=r"(?s)evaluation worker ended.*max_deliveries"):
            async with celery_worker(
                home=tmp_path,
                redis_url="redis+socket:///nowhere",
                planner_socket=tmp_path / "planner.sock",
                concurrency=1,
            ):
                await asyncio.sleep(_LIMIT_S)


async def test_the_worker_sees_our_settings_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_API_KEY", "sk-secret")
    monkeypatch.setenv("EVALUATOR_MAX_DELIVERIES", "7")
    environment = processes._worker_environment(tmp_path, "redis://x", Path("planner.sock"))
    assert environment["EVALUATOR_MAX_DELIVERIES"] == "7"
    assert environment["EVALUATOR_PLANNER_SOCKET"] == str(Path.cwd() / "planner.sock")
    assert "sk-secret" not in str(environment)


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_no_process_is_left_behind_by_a_signal(tmp_path: Path, name: str) -> None:
    host = subprocess.Popen([sys.executable, "-c", _HOST, str(tmp_path)], start_new_session=True)
    try:
        # Redis, the worker, and the worker's child.
        wait_until(lambda: len(below(host.pid)) == 3, "all processes to start")
        family = below(host.pid)
        host.send_signal(signal.Signals[name])
        host.wait(_LIMIT_S)
        wait_until(lambda: not any(is_alive(pid) for pid in family), "the children to end")
    finally:
        host.kill()
        host.wait(10)
