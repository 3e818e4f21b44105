"""What a local MCP server can reach from inside its jail: attacks by a real server."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.toolenv.mcp_servers import (
    jail,
)
from tests.integration.mcp_serving import DATA, problem, processes, run, serving, stdio, value


@contextmanager
def loopback_service(text: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]


def test_a_jailed_server_reads_no_file_of_the_host(tmp_path: Path) -> None:
    canary = tmp_path / "canary.txt"
    canary.write_text("secret")
    canary.chmod(0o644)

    async def body() -> None:
        async with serving(stdio()) as servers:
            for path in (canary, "/etc/passwd", "/root", DATA / "hostile.py", Path.home()):
                result = await servers.call("bench", "look", {"path": str(path)}, limit_s=20)
                assert result.is_error, path
            found = await servers.call("bench", "look", {"path": "/proc/1/environ"}, limit_s=20)
            assert found.is_error or "PYTEST" not in str(found)

    run(body)


def test_a_jailed_server_reads_the_paths_it_is_given_and_writes_only_its_own_tmp(
    tmp_path: Path,
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "note.txt").write_text("for you")

    async def body() -> None:
        reach = stdio()
        more = reach.model_copy(update={"read_paths": (*reach.read_paths, str(given))})
        async with serving(more) as servers:
            assert await value(servers, "look", path=str(given / "note.txt")) == "for you"
            assert await value(servers, "write", path="/tmp/mine") == "written"
            for path in (given / "new", "/usr/new", "/new", sys.prefix + "/new"):
                result = await servers.call("bench", "write", {"path": str(path)}, limit_s=20)
                assert result.is_error, path

    run(body)
    assert not Path("/tmp/mine").exists()


def test_a_jailed_server_sees_its_credentials_and_nothing_else_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOST_SECRET", "canary")

    async def body() -> None:
        reach = stdio(env={"SERVICE_TOKEN": "service"})
        async with serving(reach, secrets={"service": "s3cret"}) as servers:
            result = await servers.call("bench", "environment", {}, limit_s=20)
            seen = result.structured_content
            assert seen["SERVICE_TOKEN"] == "s3cret"
            assert "HOST_SECRET" not in seen and "canary" not in str(seen)
            assert seen["HOME"] == "/tmp"
            assert not processes("s3cret")

    run(body)


def test_a_jailed_server_has_its_own_uid_and_process_tree_and_no_privileges() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            seen = (await servers.call("bench", "environment", {}, limit_s=20)).structured_content
            assert int(seen["UID"]) != 0
            assert int(seen["PID"]) < 10
            assert int(seen["NPROC"]) <= 128
            assert "NoNewPrivs:\t1" in seen["STATUS"]
            assert "CapEff:\t0000000000000000" in seen["STATUS"]

    run(body)


def test_a_jailed_server_reaches_no_loopback_service_unless_its_definition_says_network() -> None:
    with loopback_service(b"inner") as port:

        async def body() -> None:
            async with serving(stdio()) as servers:
                result = await servers.call("bench", "connect", {"port": port}, limit_s=20)
                assert result.is_error
            async with serving(stdio(network=True)) as servers:
                assert await value(servers, "connect", port=port) == "inner"

        run(body)


def test_without_a_jail_no_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "_SYSTEM_FOLDERS", "/nowhere")
    jail._probe.cache_clear()

    async def body() -> None:
        async with serving(stdio()) as servers:
            refused = await problem(servers, "add", a=1)
            assert not refused.is_sent
            assert "install bubblewrap" in str(refused)

    try:
        run(body)
    finally:
        jail._probe.cache_clear()


def test_a_secret_that_a_server_prints_is_taken_out_of_its_answer() -> None:
    async def body() -> None:
        reach = stdio(env={"SERVICE_TOKEN": "service"})
        async with serving(reach, secrets={"service": "canary-4711-token"}) as servers:
            result = await servers.call("bench", "environment", {}, limit_s=20)
            said = str(result.structured_content)
            assert "canary-4711-token" in said  # what the server saw
            assert "canary" not in servers.redactor("bench").in_text(said)

    run(body)


def test_a_missing_credential_keeps_the_server_from_starting_and_is_named() -> None:
    async def body() -> None:
        async with serving(stdio(env={"SERVICE_TOKEN": "service"})) as servers:
            found = str(await problem(servers, "add", a=1))
            assert "`toolwright credentials set service --tool MCP/bench`" in found

    run(body)


def test_the_server_and_its_children_are_gone_when_the_context_ends() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            await value(servers, "add", a=1)
            assert processes("data/mcp/server.py")

    run(body)
    for _ in range(100):
        time.sleep(0.05 if processes("data/mcp/server.py") else 0)
    assert not processes("data/mcp/server.py")
