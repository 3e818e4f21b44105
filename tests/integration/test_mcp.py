"""Real MCP servers: local ones in their jail, remote ones on the loopback address."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.contracts.apis import ApiRef
from services.contracts.context import deadline_in
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.egress.transport import GuardedTransport, NameService
from services.toolenv.endpoints import McpEndpoint
from services.toolenv.executors.base import Declined
from services.toolenv.executors.live import LiveExecutor
from services.toolenv.executors.mcp import McpCaller
from services.toolenv.importers.mcp import import_listing, remove_server, save_server
from services.toolenv.invocation import prepare
from services.toolenv.mcp_servers import (
    Definitions,
    HttpTransport,
    McpProblem,
    McpServerDefinition,
    McpServers,
    ServerLimits,
    StdioTransport,
)
from services.toolenv.mcp_servers.session import McpSession
from services.toolenv.pins import Pins
from tests.integration.mcp_serving import (
    DATA,
    QUICK,
    http_server,
    problem,
    processes,
    run,
    serving,
    stdio,
    value,
)

# Sessions


def test_concurrent_calls_share_one_session_and_finish_in_their_own_time() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            await value(servers, "add", a=0)
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                slow = [group.create_task(value(servers, "sleep", seconds=0.5)) for _ in range(10)]
                quick = [group.create_task(value(servers, "add", a=n)) for n in range(50)]
            assert [task.result() for task in quick] == [n + 2 for n in range(50)]
            assert {task.result() for task in slow} == {"slept"}
            assert time.monotonic() - began < 4
            assert len(processes("data/mcp/server.py stdio".replace(" ", "\0"))) < 6

    run(body)


def test_a_call_that_takes_too_long_is_a_timeout_and_is_cancelled_upstream() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            await value(servers, "add", a=0)
            began = time.monotonic()
            late = await problem(servers, "sleep", limit_s=0.5, seconds=30)
            assert time.monotonic() - began < 1.5
            assert late.status is CallStatus.TIMEOUT
            assert await value(servers, "cancellations") == 1

    run(body)


def test_a_caller_that_goes_away_cancels_the_call_upstream() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            await value(servers, "add", a=0)
            caller = asyncio.create_task(value(servers, "sleep", seconds=30))
            await asyncio.sleep(0.3)
            caller.cancel()
            await asyncio.wait({caller})
            assert await value(servers, "cancellations") == 1

    run(body)


def test_a_server_that_dies_in_mid_call_is_a_failure_with_its_last_words_and_starts_again() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            died = await problem(servers, "die")
            assert died.status is CallStatus.REQUEST_FAILED and died.is_sent
            assert "status 3" in str(died) and "last words" in str(died)
            assert await value(servers, "add", a=1) == 3

    run(body)


def test_a_server_killed_with_kill_9_starts_again() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            await value(servers, "add", a=1)
            for pid in processes("data/mcp/server.py"):
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.2)
            assert await value(servers, "add", a=2) == 4

    run(body)


def test_a_server_that_fails_again_and_again_is_started_with_growing_pauses() -> None:
    async def body() -> None:
        limits = ServerLimits(first_pause_s=2, connect_timeout_s=15)
        async with serving(stdio("server.py", "no-such-transport"), limits=limits) as servers:
            first = await problem(servers, "add", a=1)
            assert not first.is_sent
            began = time.monotonic()
            second = await problem(servers, "add", a=1)
            assert time.monotonic() - began < 1
            assert "started again in" in str(second)
            assert servers.status()[0].state == "failed"

    run(body)


def test_a_server_that_never_answers_is_a_timeout_before_the_deadline_plus_a_second() -> None:
    async def body() -> None:
        async with serving(stdio("hostile.py", "silent")) as servers:
            began = time.monotonic()
            silent = await problem(servers, "misbehave", limit_s=1)
            assert time.monotonic() - began < 2
            assert silent.status is CallStatus.TIMEOUT
            began = time.monotonic()
        assert time.monotonic() - began < 5

    run(body)


def test_a_frozen_server_is_found_out_after_a_timeout_and_started_anew() -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            await value(servers, "add", a=1)
            assert (await problem(servers, "freeze", limit_s=0.5, seconds=60)).status == "timeout"
            assert not (await problem(servers, "add", limit_s=8, a=1)).is_sent
            assert await value(servers, "add", a=1) == 3

    run(body)


def test_an_answer_that_is_too_long_fails_alone() -> None:
    async def body() -> None:
        limits = ServerLimits(max_message_bytes=100_000)
        async with serving(stdio(), limits=limits) as servers:
            async with asyncio.TaskGroup() as group:
                sibling = group.create_task(value(servers, "sleep", seconds=0.5))
                big = await problem(servers, "big", size=1_000_000)
            assert big.status is CallStatus.OUTPUT_LIMIT
            assert "100000 bytes" in str(big)
            assert sibling.result() == "slept"

    run(body)


@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [
        ("flood", CallStatus.REQUEST_FAILED, "answer no call"),
        ("endless_line", CallStatus.REQUEST_FAILED, "a line of more than"),
        ("not_a_result", CallStatus.REQUEST_FAILED, "broke the protocol"),
        ("stops_reading", CallStatus.TIMEOUT, "did not answer"),
    ],
)
def test_a_hostile_server_is_a_typed_failure_in_time(
    mode: str, status: CallStatus, words: str
) -> None:
    async def body() -> None:
        limits = ServerLimits(max_message_bytes=200_000, first_pause_s=0.1)
        async with serving(stdio("hostile.py", mode), limits=limits) as servers:
            await servers.listing("bench", limit_s=20)
            began = time.monotonic()
            failure = await problem(servers, "misbehave", limit_s=4)
            assert time.monotonic() - began < 5
            assert failure.status is status and words in str(failure)

    run(body)


@pytest.mark.parametrize(
    ("mode", "text"), [("garbage", "after the garbage"), ("wrong_ids", "mine")]
)
def test_lines_that_mean_nothing_are_passed_over(mode: str, text: str) -> None:
    async def body() -> None:
        async with serving(stdio("hostile.py", mode)) as servers:
            assert await value(servers, "misbehave") == text

    run(body)


def test_all_pages_of_a_listing_are_read_and_an_endless_one_is_refused() -> None:
    async def body() -> None:
        async with serving(stdio("hostile.py", "pages")) as servers:
            assert len((await servers.listing("bench", limit_s=20)).tools) == 8
        async with serving(stdio("hostile.py", "pages_for_ever")) as servers:
            with pytest.raises(McpProblem, match="more than 64 pages"):
                await servers.listing("bench", limit_s=20)

    run(body)


def test_a_fault_inside_the_client_library_costs_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with serving(stdio()) as servers:
            await value(servers, "add", a=1)
            with monkeypatch.context() as patch:
                patch.setattr(McpSession, "call", broken)
                assert (await problem(servers, "add", a=1)).status is CallStatus.REQUEST_FAILED
            assert await value(servers, "add", a=1) == 3

    async def broken(*arguments: object) -> None:
        raise KeyError("a bug")

    run(body)


def test_a_changed_definition_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    async def body() -> None:
        catalogue = await imported(tmp_path, stdio())
        async with calling(tmp_path) as caller:
            assert (await observe(caller, catalogue, "add", '{"a": 1}')).status is CallStatus.OK
            definitions = Definitions(tmp_path)
            before = definitions.read()["bench"]
            definitions.put(before.model_copy(update={"reach": stdio(memory_mb=512)}))
            assert (await observe(caller, catalogue, "add", '{"a": 1}')).status is CallStatus.OK
            definitions.path.write_text("{", encoding="utf-8")
            assert (await observe(caller, catalogue, "add", '{"a": 1}')).status is CallStatus.OK

    run(body)


# Streamable HTTP


@pytest.mark.parametrize("arguments", [(), ("json",)])
def test_a_remote_server_is_called_and_its_failures_stay_with_their_calls(
    arguments: tuple[str, ...],
) -> None:
    with http_server(*arguments) as url:

        async def body() -> None:
            limits = ServerLimits(max_message_bytes=100_000)
            async with serving(HttpTransport(url=url), limits=limits) as servers:
                assert await value(servers, "add", a=5) == 7
                async with asyncio.TaskGroup() as group:
                    sibling = group.create_task(value(servers, "sleep", seconds=0.5))
                    big = await problem(servers, "big", size=300_000)
                    late = await problem(servers, "sleep", limit_s=0.3, seconds=30)
                assert big.status is CallStatus.OUTPUT_LIMIT
                assert late.status is CallStatus.TIMEOUT
                assert sibling.result() == "slept"
                died = await problem(servers, "die")
                assert died.status is CallStatus.REQUEST_FAILED and died.is_sent
                await problem(servers, "add", a=5)  # perhaps still on the dead connection
                gone = await problem(servers, "add", a=5)
                assert not gone.is_sent

        run(body)


def test_the_guarded_transport_refuses_a_server_inside_this_network() -> None:
    with http_server() as url:

        async def body() -> None:
            async with serving(HttpTransport(url=url), transport=GuardedTransport()) as servers:
                refused = await problem(servers, "add", a=1)
                assert not refused.is_sent and "refused" in str(refused)
            names = NameService(allow_private=frozenset({httpx.URL(url).netloc.decode()}))
            guarded = GuardedTransport(names=names)
            async with serving(HttpTransport(url=url), transport=guarded) as servers:
                assert await value(servers, "add", a=1) == 3

        run(body)


# From the import to the observation


async def imported(root: Path, reach: StdioTransport | HttpTransport) -> Catalogue:
    definition = McpServerDefinition(name="bench", reach=reach)
    async with serving(reach) as servers:
        listing = await servers.listing("bench", limit_s=20)
    save_server(root, import_listing(definition, listing), check=lambda path: [])
    return load_catalogue((root,))


@asynccontextmanager
async def calling(root: Path, limits: ServerLimits = QUICK) -> AsyncIterator[McpCaller]:
    async with (
        httpx.AsyncHTTPTransport() as sender,
        McpServers(
            Definitions(root), transport=sender, lookup=lambda name, api: None, limits=limits
        ) as servers,
    ):
        yield McpCaller(servers, call_timeout_s=20)


async def observe(
    caller: McpCaller, catalogue: Catalogue, api: str, arguments: str = "{}"
) -> Observation | Declined:
    entry = catalogue.get(ApiRef(category="MCP", tool="bench", api=api))
    assert entry is not None
    return await LiveExecutor({McpEndpoint: caller}).execute(prepare(entry, arguments))


def test_an_imported_server_answers_as_live_with_names_mapped_back(tmp_path: Path) -> None:
    async def body() -> None:
        catalogue = await imported(tmp_path, stdio())
        async with calling(tmp_path) as caller:
            seen = await observe(caller, catalogue, "echo_text", '{"text": "hi"}')
            assert (seen.status, seen.source) == (CallStatus.OK, "live")
            assert '"response": "hi"' in seen.content
            failing = await observe(caller, catalogue, "fail")
            assert failing.status is CallStatus.TOOL_ERROR
            picture = await observe(caller, catalogue, "picture")
            assert '"bytes": 3000' in picture.content and "image/png" in picture.content
            wrong = await observe(caller, catalogue, "add", '{"c": 1}')
            assert wrong.status is CallStatus.INVALID_ARGUMENTS
            with deadline_in(0.4):
                late = await observe(caller, catalogue, "sleep", '{"seconds": 9}')
            assert late.status is CallStatus.TIMEOUT

    run(body)


def test_a_tool_that_changes_after_the_import_is_not_called_any_more(tmp_path: Path) -> None:
    async def body() -> None:
        catalogue = await imported(tmp_path, stdio())
        async with calling(tmp_path) as caller:
            before = await observe(caller, catalogue, "add", '{"a": 1}')
            assert before.status is CallStatus.OK
            await observe(caller, catalogue, "change")
            await asyncio.sleep(0.3)
            after = await observe(caller, catalogue, "add", '{"a": 1}')
            assert isinstance(after, Declined) and "changed what it says" in after.reason
            other = await observe(caller, catalogue, "echo_text", '{"text": "unharmed"}')
            assert other.status is CallStatus.OK

    run(body)


@pytest.mark.parametrize(
    ("mode", "relist_s"), [("changes_aloud", 300.0), ("changes", 0.0)], ids=["told", "looked up"]
)
def test_a_change_is_noticed_whether_or_not_the_server_tells(
    tmp_path: Path, mode: str, relist_s: float
) -> None:
    async def body() -> None:
        catalogue = await imported(tmp_path, stdio("hostile.py", mode))
        async with calling(tmp_path, ServerLimits(relist_s=relist_s)) as caller:
            assert (await observe(caller, catalogue, "misbehave")).status is CallStatus.OK
            await asyncio.sleep(0.3)
            after = await observe(caller, catalogue, "misbehave")
            assert isinstance(after, Declined) and "changed what it says" in after.reason

    run(body)


def test_a_removed_server_is_not_called_any_more_and_needs_no_restart(tmp_path: Path) -> None:
    async def body() -> None:
        catalogue = await imported(tmp_path, stdio())
        async with calling(tmp_path) as caller:
            assert (await observe(caller, catalogue, "add", '{"a": 1}')).status is CallStatus.OK
            remove_server(tmp_path, "bench")
            gone = await observe(caller, catalogue, "add", '{"a": 1}')
            assert isinstance(gone, Declined) and "no MCP server 'bench'" in gone.reason
            assert len(load_catalogue((tmp_path,))) == 0

    run(body)


# The command line


def test_the_commands_import_a_server_hold_back_its_change_and_approve_it(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TOOLWRIGHT_HOME": str(tmp_path),
        "TOOLWRIGHT_URL": "http://127.0.0.1:9",
    }

    def tools(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", "tools", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    imported = tools(
        "import", "mcp", "bench", "--", sys.executable, str(DATA / "server.py"), "stdio"
    )
    assert "imported 15 APIs" in imported.stdout, imported.stderr
    root, pins = tmp_path / "tools", Pins(tmp_path / "toolenv")
    pins.admit(load_catalogue((root,)))
    assert "MCP/bench" in tools("pins").stdout
    document = root / "MCP/bench.json"
    text = document.read_text(encoding="utf-8")
    document.write_text(text.replace("Add two numbers", "Mail me"), encoding="utf-8")
    assert "1 tools held back" in tools("quarantine").stdout
    assert "Mail me" in tools("quarantine", "MCP/bench").stdout
    assert pins.admit(load_catalogue((root,))).catalogue.entries() == []
    assert "approved MCP/bench" in tools("approve", "MCP/bench", "--yes").stdout
    assert len(pins.admit(load_catalogue((root,))).catalogue) == 15
    wrong = tools("import", "mcp", "bench")
    assert wrong.returncode == 2 and "either --url URL or -- COMMAND" in wrong.stderr
