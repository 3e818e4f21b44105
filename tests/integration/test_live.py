"""Live calls through the guarded transport and the chain, against servers that misbehave."""

import asyncio
import gzip
import json
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from services.contracts.context import deadline_in
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.chain import Chain
from services.toolenv.egress.transport import GuardedTransport, NameService
from services.toolenv.endpoints import EndpointParameter, HttpEndpoint
from services.toolenv.executors.http import HttpCaller, HttpLimits
from services.toolenv.executors.live import LiveExecutor
from services.toolenv.executors.providers import ProviderLimits, Providers
from services.toolenv.invocation import prepare
from tests.fakes.live_api import (
    RAPIDAPI_KEY,
    Keyring,
    LiveApi,
    answer,
    drip,
    dropped,
    echo_secrets,
    flood,
    in_turn,
    live_entry,
    serve_api,
    silent,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
KEY = "canary-0a1b2c3d4e5f/+=="
FAST = ProviderLimits(rate_per_s=10_000, burst=1000)


@asynccontextmanager
async def live(
    *ports: int,
    provider: ProviderLimits = FAST,
    limits: HttpLimits | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Chain]:
    """A chain of the live executor alone, whose guard lets through to `ports` of loopback."""
    allowed = frozenset(f"127.0.0.1:{port}" for port in ports)
    guarded = transport or GuardedTransport(names=NameService(allow_private=allowed))
    async with guarded:
        caller = HttpCaller(
            guarded,
            credentials=Keyring(rapidapi=KEY),
            providers=Providers(provider),
            limits=limits,
            clear_hosts=allowed,
        )
        yield Chain([LiveExecutor({HttpEndpoint: caller})])


async def ask(chain: Chain, url: str, arguments: str = "{}", **entry: Any) -> Observation:
    return await chain.execute(prepare(live_entry(url, **entry), arguments))


@pytest.mark.parametrize("behaviour", [silent, drip])
async def test_an_api_that_never_finishes_gives_a_timeout_within_the_deadline_and_a_second(
    behaviour: Any,
) -> None:
    started = time.perf_counter()
    async with serve_api(x=behaviour) as api, live(api.port) as chain:
        with deadline_in(1.0):
            observation = await ask(chain, f"{api.url}/x")
        assert time.perf_counter() - started < 2.0
    assert (observation.status, observation.source) == (CallStatus.TIMEOUT, "error")
    assert 0.9 < observation.latency_s < 2.0


async def test_a_web_page_with_status_200_is_not_the_objects_answer() -> None:
    page = answer("<!doctype html><html><title>Welcome</title></html>", content_type="text/html")
    async with serve_api(x=page) as api, live(api.port) as chain:
        observation = await ask(chain, f"{api.url}/x", template={"temp": "int"})
    assert (observation.status, observation.upstream_status) == (CallStatus.REQUEST_FAILED, 200)
    assert "a web page" in observation.content


async def test_fifty_megabytes_of_json_are_cut_off_with_their_head_kept() -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = HttpLimits(max_body_bytes=1 << 20, head_bytes=4096)
    async with serve_api(x=flood(50 << 20)) as api, live(api.port, limits=limits) as chain:
        with deadline_in(20):
            observation = await ask(chain, f"{api.url}/x")
    assert (observation.status, observation.source) == (CallStatus.OUTPUT_LIMIT, "live")
    assert json.loads(observation.content)["response"].startswith('{"data": "aaaa')
    assert len(observation.content) < 10_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 64 << 10


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest/meta-data/", "http://2130706433/", "http://[::1]/"]
)
async def test_a_redirect_to_an_internal_address_is_refused_by_the_guard(location: str) -> None:
    moved = answer("", status=302, location=location)
    async with serve_api(x=moved) as api, live(api.port) as chain:
        observation = await ask(chain, f"{api.url}/x")
    assert observation.status is CallStatus.API_NOT_WORKING
    assert "refused" in observation.content


async def test_the_first_address_is_guarded_too() -> None:
    async with serve_api(x=answer("{}")) as api, live() as chain:
        observation = await ask(chain, f"{api.url}/x")
        assert api.received == []
    assert observation.status is CallStatus.API_NOT_WORKING


async def test_a_write_that_is_committed_and_dropped_has_one_effect_whoever_is_asked_next() -> None:
    async with serve_api(pay=dropped) as api, live(api.port) as chain:
        observation = await ask(chain, f"{api.url}/pay", method="POST")
        assert len(api.received) == 1
    assert (observation.status, observation.tried) == (CallStatus.REQUEST_FAILED, "live")


async def test_sixty_four_calls_keep_to_the_providers_bound_and_all_arrive() -> None:
    provider = ProviderLimits(concurrency=8, rate_per_s=10_000, burst=1000)
    parameters = (EndpointParameter("n", "query"),)
    async with serve_api(x=answer("[1]", delay_s=0.02)) as api:
        async with live(api.port, provider=provider) as chain, asyncio.TaskGroup() as group:
            calls = [
                group.create_task(
                    ask(chain, f"{api.url}/x", json.dumps({"n": n}), parameters=parameters)
                )
                for n in range(64)
            ]
        assert 1 < api.peak <= 8
        assert len({request.target for request in api.received}) == 64
    assert {call.result().status for call in calls} == {CallStatus.OK}


async def test_a_host_that_is_down_is_left_alone_and_tried_again_later() -> None:
    provider = ProviderLimits(breaker_failures=3, breaker_open_s=0.5, rate_per_s=1000)
    limits = HttpLimits(max_tries=1)
    down = answer("", status=503)
    async with (
        serve_api(x=in_turn(down, down, down, answer("[1]"))) as api,
        live(api.port, provider=provider, limits=limits) as chain,
    ):
        failures = [await ask(chain, f"{api.url}/x") for _ in range(3)]
        refused = await ask(chain, f"{api.url}/x")
        assert len(api.received) == 3
        await asyncio.sleep(0.6)
        recovered = await ask(chain, f"{api.url}/x")
    assert {failure.upstream_status for failure in failures} == {503}
    assert (refused.status, refused.upstream_status) == (CallStatus.API_NOT_WORKING, None)
    assert "circuit breaker" in refused.content
    assert 0 < (refused.retry_after_s or 0) <= 0.5
    assert recovered.status is CallStatus.OK


async def test_a_closed_port_an_unknown_name_and_garbage_are_typed_failures() -> None:
    async def garbage(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9\r\n")
        writer.close()

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with serve_api(x=garbage) as api, live(api.port, port) as chain:
            refused = await ask(chain, f"http://127.0.0.1:{port}/x")
            unknown = await ask(chain, "http://no-such-host.invalid/x")
            broken = await ask(chain, f"{api.url}/x")
    assert refused.status is CallStatus.API_NOT_WORKING
    assert unknown.status is CallStatus.API_NOT_WORKING
    assert broken.status is CallStatus.REQUEST_FAILED


async def test_the_key_is_in_no_observation_and_no_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    async with serve_api(x=echo_secrets(), y=dropped) as api, live(api.port) as chain:
        observations = [
            await ask(chain, f"{api.url}/{path}", auth=(RAPIDAPI_KEY,)) for path in ("x", "y")
        ]
        assert api.received[0].headers["x-rapidapi-key"] == KEY
    written = capfd.readouterr()
    shown = "".join(observation.model_dump_json() for observation in observations)
    assert KEY not in shown + caplog.text + written.out + written.err


async def test_many_calls_share_one_http_2_connection() -> None:
    async with serve_http2() as served:
        transport = httpx.AsyncHTTPTransport(http1=False, http2=True)  # prior knowledge, no TLS
        async with live(transport=transport) as chain, asyncio.TaskGroup() as group:
            calls = [group.create_task(ask(chain, f"{served.url}/x")) for _ in range(8)]
    assert {call.result().content for call in calls} == {'{"error": "", "response": {"via": "h2"}}'}
    assert (len(served.received), served.connections) == (8, 1)


class Http2Server(LiveApi):
    connections = 0


@asynccontextmanager
async def serve_http2() -> AsyncIterator[Http2Server]:
    """A server that speaks HTTP/2 from the first byte and answers every request alike."""
    state = Http2Server()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        config = h2.config.H2Configuration(client_side=False)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    state.received.append(event)  # type: ignore[arg-type]
                    headers = [(":status", "200"), ("content-type", "application/json")]
                    connection.send_headers(event.stream_id, headers)
                    connection.send_data(event.stream_id, b'{"via": "h2"}', end_stream=True)
            writer.write(connection.data_to_send())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()


async def test_half_a_compressed_answer_is_no_answer() -> None:
    whole = gzip.compress(json.dumps({"n": list(range(5000))}).encode())
    cut = answer(whole[:-100], content_encoding="gzip")
    async with serve_api(cut=cut) as api, live(api.port) as chain:
        observation = await ask(chain, f"{api.url}/cut")
    assert observation.status is CallStatus.REQUEST_FAILED
    assert "cut off" in observation.content


async def test_a_page_of_blanks_does_not_stop_the_service() -> None:
    blanks = answer(" " * 250_000 + "<", content_type="text/html")
    async with serve_api(x=blanks) as api, live(api.port) as chain:
        started = time.perf_counter()
        await ask(chain, f"{api.url}/x")
    assert time.perf_counter() - started < 2.0
