"""Tools that use the network: real sandbox, real broker process, real servers on loopback."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.toolenv.egress.policy import EgressPolicy, HostRule, Injection
from services.toolenv.sandbox import BrokerOptions, Sandbox, SandboxOutcome, open_sandbox
from tests.fakes.certificates import Authority, make_authority
from tests.fakes.egress_upstream import Upstream, serve_upstream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

_SECRET = "canary-rapid-key-0123456789"
_HOST = "weather.p.rapidapi.com"
_TIERS = [
    "ns",
    pytest.param(
        "chroot",
        marks=pytest.mark.skipif(
            os.geteuid() != 0, reason="tier chroot: runs when the host is root"
        ),
    ),
]
_KEY = Injection("header", "X-RapidAPI-Key", SecretStr(_SECRET))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def upstream(anyio_backend: str) -> AsyncIterator[Upstream]:
    async with serve_upstream() as running:
        yield running


@pytest.fixture(scope="module")
async def secure(anyio_backend: str, authority: Authority):
    async with serve_upstream(authority.server_context) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"), _HOST)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module", params=_TIERS)
async def sandbox(
    request: pytest.FixtureRequest,
    home: Path,
    upstream: Upstream,
    secure: Upstream,
    authority: Authority,
) -> AsyncIterator[Sandbox]:
    options = BrokerOptions(
        allow_private=frozenset({f"{_HOST}:{upstream.port}", f"{_HOST}:{secure.port}"}),
        static_hosts={
            _HOST: "127.0.0.1",
            "intranet.example.org": "10.0.0.5",
            "metadata.example.org": "169.254.169.254",
            "six.example.org": "fd00:ec2::254",
            "loop.example.org": "127.0.0.1",
        },
        ca_file=authority.file,
    )
    async with open_sandbox(
        home=home, tier=request.param, pool_size=2, probes=False, broker=options
    ) as opened:
        await opened.warm_egress()
        yield opened


@pytest.fixture
def policy(upstream: Upstream, secure: Upstream) -> EgressPolicy:
    every = frozenset({"http", "https"})
    ports = frozenset({80, 443, upstream.port, secure.port})
    names = ("intranet", "metadata", "six", "loop")
    others = [HostRule(f"{name}.example.org", ports, every) for name in names]
    rule = HostRule(_HOST, ports, every, (_KEY,))
    return EgressPolicy("Weather/weather", (rule, *others))


@pytest.fixture
def run_tool(sandbox: Sandbox, policy: EgressPolicy, upstream: Upstream):
    """Calls `run(url, ...)` of a source with the plain server's address."""
    upstream.requests.clear()

    async def call(source, path="/echo", *, deadline_s=25.0, egress=policy, url=None, **arguments):
        url = url or f"http://{_HOST}:{upstream.port}{path}"
        return await sandbox.call(
            source=source,
            function="run",
            arguments={"url": url, **arguments},
            deadline_s=deadline_s,
            egress=egress,
        )

    return call


_GET = """
import urllib.request
def run(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return [answer.status, answer.read().decode()]
"""
_LIBRARIES = {
    "requests": """
import requests
def run(url):
    answer = requests.get(url, params={"q": "ä"}, headers={"X-RapidAPI-Key": "mine"}, timeout=20)
    answer.raise_for_status()
    return answer.json()
""",
    "requests session": """
import requests
def run(url):
    with requests.Session() as session:
        session.headers.update({"X-RapidAPI-Key": "mine"})
        with session.get(url, params={"q": "ä"}, stream=True, timeout=(3, 20)) as answer:
            import json
            return json.loads(b"".join(answer.iter_content(64)))
""",
    "httpx": """
import httpx
def run(url):
    return httpx.get(url, params={"q": "ä"}, headers={"X-RapidAPI-Key": "mine"}).json()
""",
    "httpx async": """
import asyncio, httpx
async def fetch(url):
    async with httpx.AsyncClient() as client:
        return (await client.get(url, params={"q": "ä"})).json()
def run(url):
    return asyncio.run(fetch(url))
""",
    "urllib": """
import json, urllib.request
def run(url):
    request = urllib.request.Request(url + "?q=%C3%A4", headers={"X-RapidAPI-Key": "mine"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)
""",
    "urllib3": """
import urllib3
def run(url):
    return urllib3.request("GET", url, fields={"q": "ä"}).json()
""",
    "http.client": """
import http.client, json
from urllib.parse import urlsplit
def run(url):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.request("GET", parts.path + "?q=%C3%A4", headers={"X-RapidAPI-Key": "mine"})
    return json.loads(connection.getresponse().read())
""",
}


@pytest.mark.parametrize("library", _LIBRARIES)
async def test_each_library_works_unchanged_and_never_sees_the_key(run_tool, upstream, library):
    result = await run_tool(_LIBRARIES[library])
    assert result.outcome is SandboxOutcome.OK, result.error
    assert result.value["path"] == "/echo?q=%C3%A4"
    assert upstream.requests[-1]["headers"]["x-rapidapi-key"] == _SECRET
    assert result.value["headers"]["x-rapidapi-key"] == "[redacted]"


_TOOLBENCH = """
import requests
import json
from typing import Union

def current_weather(city: str, units: str='metric',
                    toolbench_rapidapi_key: str='leaked-default-0123456789abcdef'):
    url = f"https://{host}:{port}/echo"
    querystring = {"city": city, 'units': units}
    headers = {
            "X-RapidAPI-Key": toolbench_rapidapi_key,
            "X-RapidAPI-Host": "{host}"
        }
    response = requests.get(url, headers=headers, params=querystring)
    try:
        observation = response.json()
    except:
        observation = response.text
    return observation
"""


async def test_code_written_for_toolbench_runs_unchanged_over_tls(sandbox, policy, secure):
    source = _TOOLBENCH.replace("{host}", _HOST).replace("{port}", str(secure.port))
    result = await sandbox.call(
        source=source,
        function="current_weather",
        arguments={"city": "Bonn"},
        deadline_s=25,
        egress=policy,
    )
    assert result.outcome is SandboxOutcome.OK, result.error
    seen = secure.requests[-1]
    assert seen["path"] == "/echo?city=Bonn&units=metric"
    assert (seen["headers"]["x-rapidapi-key"], seen["headers"]["x-rapidapi-host"]) == (
        _SECRET,
        _HOST,
    )
    assert "leaked-default" not in json.dumps(seen)
    assert _SECRET not in json.dumps(result.value)


async def test_without_a_stored_key_the_one_in_the_code_does_not_leave(
    sandbox, policy, secure, upstream
):
    keyless = HostRule(
        _HOST, frozenset({secure.port}), injections=(Injection("header", _KEY.name),)
    )
    source = _TOOLBENCH.replace("{host}", _HOST).replace("{port}", str(secure.port))
    result = await sandbox.call(
        source=source,
        function="current_weather",
        arguments={"city": "Bonn", "toolbench_rapidapi_key": "leaked"},
        deadline_s=25,
        egress=EgressPolicy("t", (keyless,)),
    )
    assert result.outcome is SandboxOutcome.OK, result.error
    assert "x-rapidapi-key" not in secure.requests[-1]["headers"]


async def test_a_key_echoed_in_header_redirect_or_base64_comes_back_redacted(run_tool):
    source = """
import base64, json, urllib.request
def run(url):
    with urllib.request.urlopen(url) as answer:
        return [dict(answer.headers), answer.read().decode()]
"""
    result = await run_tool(source)
    assert result.value[0]["X-Echo"] == "[redacted]"
    assert _SECRET not in json.dumps(result.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://169.254.169.254/latest/meta-data", "not on the tool's list"),
        ("http://2852039166/", "unusual way"),
        ("http://0xa9fea9fe/", "unusual way"),
        ("http://0251.0376.0251.0376/", "IPv4 address"),
        ("http://[::1]/", "not on the tool's list"),
        ("http://[::ffff:169.254.169.254]/", "not on the tool's list"),
        ("http://127.0.0.1:6379/", "not on the tool's list"),
        ("http://localhost/", "not on the tool's list"),
        ("http://evil.example.com/", "not on the tool's list"),
        ("http://metadata.example.org./", "ends in a dot"),
        ("http://metadata.example.org/", "link-local, where cloud metadata lives"),
        ("http://intranet.example.org/", "(10.0.0.5)' is private"),
        ("http://six.example.org/", "(fd00:ec2::254)' is private"),
        ("http://loop.example.org/", "(127.0.0.1)' is loopback"),
    ],
)
async def test_what_is_not_public_or_not_listed_is_refused(run_tool, url, expected):
    result = await run_tool(_GET, url=url)
    assert result.outcome is SandboxOutcome.TOOL_ERROR
    assert expected in result.error
    assert result.error.startswith("URLError: ")


@pytest.mark.parametrize(
    "call",
    ["requests.get(url)", "httpx.get(url, follow_redirects=True)"],
    ids=["requests", "httpx"],
)
@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "http://metadata.example.org/latest"]
)
async def test_a_redirect_to_metadata_is_refused_at_its_hop(run_tool, call, target):
    source = f"import {call.partition('.')[0]}\ndef run(url):\n    return {call}.text"
    result = await run_tool(source, f"/redirect?to={target}")
    assert result.outcome is SandboxOutcome.TOOL_ERROR
    assert "egress refused" in result.error


async def test_a_redirect_to_another_listed_host_loses_the_key(run_tool, upstream, policy, sandbox):
    other = HostRule("loop.example.org", frozenset({upstream.port}), frozenset({"http"}))
    result = await run_tool(
        _GET,
        f"/redirect?to=http://loop.example.org:{upstream.port}/echo",
        egress=EgressPolicy("t", (policy.hosts[0], other)),
    )
    assert "is loopback" in result.error  # checked anew, and not one of the exceptions
    assert [request["path"].partition("?")[0] for request in upstream.requests] == ["/redirect"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/never", "timed out"),
        ("/drip", "timed out"),
        ("/bomb", "exceeds the limit of 1048576 bytes"),
        ("/one-line", "exceeds the limit of 1048576 bytes"),
        ("/announced", "exceeds the limit of 1048576 bytes"),
        ("/cut", "ConnectionError"),
        ("/garbage", "ConnectionError"),
        ("/brotli", "content-encoding"),
    ],
)
async def test_a_bad_server_is_a_typed_error_before_the_deadline(run_tool, path, expected):
    source = "import requests\ndef run(url):\n    return requests.get(url).text"
    started = time.monotonic()
    result = await run_tool(source, path, deadline_s=6.0)
    assert time.monotonic() - started < 7.0
    assert result.outcome is SandboxOutcome.TOOL_ERROR
    assert expected in result.error
    assert result.error.startswith(("ConnectionError", "ReadTimeout"))


async def test_html_with_status_200_is_what_the_tool_gets(run_tool):
    result = await run_tool(_GET, "/html")
    assert result.value == [200, "<!doctype html><title>Error</title><h1>It works!</h1>"]


async def test_an_answer_with_too_many_headers_is_still_read(run_tool):
    assert (await run_tool(_GET, "/headers")).value == [200, "ok"]


async def test_a_body_of_10_mb_is_refused_on_the_way_out(run_tool, upstream):
    source = "import requests\ndef run(url):\n    return requests.post(url, data=bytes(SIZE)).text"
    for size, expected in ((10 << 20, "too large"), ((1 << 20) + 1, "has 1048577 bytes")):
        result = await run_tool(source.replace("SIZE", str(size)))
        assert result.outcome is SandboxOutcome.TOOL_ERROR
        assert expected in result.error
    assert upstream.requests == []


async def test_the_21st_request_is_refused_and_the_first_20_were_served(run_tool, upstream):
    source = """
import urllib.request
def run(url):
    for count in range(30):
        try:
            urllib.request.urlopen(url).read()
        except OSError as error:
            return [count, str(error)]
"""
    result = await run_tool(source)
    assert result.outcome is SandboxOutcome.OK, result.error
    assert result.value[0] == 20
    assert "used its budget of 20 requests" in result.value[1]
    assert len(upstream.requests) == 20


_FORGE = """
import json, os, stat, struct, base64
def channel():
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return number
        except OSError:
            pass
def send(frame):
    body = json.dumps(frame).encode()
    os.write(channel(), struct.pack("<I", len(body)) + body)
def frame(url, **changes):
    return {"t": "http", "id": 1, "method": "GET", "url": url, "headers": [], "body": "",
            "timeout_s": None} | changes
"""


async def test_a_flood_of_forged_requests_ends_the_call(run_tool, upstream):
    source = _FORGE + "def run(url):\n    for _ in range(500):\n        send(frame(url))\n"
    result = await run_tool(source + "    import time; time.sleep(20)")
    assert result.outcome is SandboxOutcome.PROTOCOL_ERROR
    assert "more than 20 requests" in result.error
    assert len(upstream.requests) <= 20


async def test_a_forged_line_break_is_refused_by_the_host(run_tool, upstream):
    source = _FORGE + (
        "def run(url):\n"
        "    send(frame(url, headers=[['X-A', 'b\\r\\nX-Injected: 1']]))\n"
        "    return os.read(channel(), 65536)[4:].decode()\n"
    )
    result = await run_tool(source)
    assert "line break" in str(result.value)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "change", ["method=7", "headers=[1]", "body='***'", "timeout_s='x'", "extra=1"]
)
async def test_a_forged_frame_of_another_shape_is_a_protocol_error(run_tool, change):
    source = _FORGE + f"def run(url):\n    send(frame(url, {change}))\n    os.read(channel(), 9)\n"
    result = await run_tool(source)
    assert result.outcome is SandboxOutcome.PROTOCOL_ERROR


async def test_a_request_after_the_result_is_never_made(run_tool, upstream):
    source = _FORGE + (
        "def run(url):\n"
        "    send({'t': 'result', 'outcome': 'ok', 'value': 1, 'error': '', 'stdout': '',"
        " 'cpu_s': 0})\n"
        "    send(frame(url))\n"
        "    import time; time.sleep(1)\n"
    )
    result = await run_tool(source)
    await asyncio.sleep(0.2)
    assert result.value == 1
    assert upstream.requests == []


async def test_without_a_policy_there_is_no_network_and_a_frame_is_a_protocol_error(
    run_tool, upstream
):
    plain = await run_tool(_GET, egress=None)
    forged = await run_tool(
        _FORGE + "def run(url):\n    send(frame(url))\n    os.read(channel(), 9)\n", egress=None
    )
    assert plain.outcome is not SandboxOutcome.OK
    assert forged.outcome is SandboxOutcome.PROTOCOL_ERROR
    assert upstream.requests == []


async def test_a_broker_killed_in_mid_call_is_a_connection_error_and_is_replaced(
    sandbox, run_tool, upstream
):
    source = "import requests\ndef run(url):\n    return requests.get(url).status_code"
    call = asyncio.create_task(run_tool(source, "/never"))
    async with asyncio.timeout(20):
        while not upstream.requests:  # noqa: ASYNC110  # the server is a plain fake
            await asyncio.sleep(0.01)
    first = sandbox.broker_pid
    os.kill(first, signal.SIGKILL)
    started = time.monotonic()
    broken = await call
    assert time.monotonic() - started < 2.0
    assert broken.outcome is SandboxOutcome.TOOL_ERROR
    assert "the egress broker ended during the request; try again" in broken.error
    following = await run_tool(source)
    assert following.value == 200
    assert sandbox.broker_pid not in (None, first)


async def test_a_broker_that_is_stopped_does_not_hold_a_call_beyond_its_deadline(sandbox, run_tool):
    os.kill(sandbox.broker_pid, signal.SIGSTOP)
    started = time.monotonic()
    result = await run_tool(_GET, deadline_s=2.0)
    assert time.monotonic() - started < 3.0
    assert result.outcome is not SandboxOutcome.OK
    os.kill(sandbox.broker_pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while (await run_tool(_GET)).outcome is not SandboxOutcome.OK:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_cancelled_call_cancels_its_request(sandbox, run_tool, upstream):
    call = asyncio.create_task(run_tool(_GET, "/never"))
    async with asyncio.timeout(20):
        while not upstream.requests:  # noqa: ASYNC110  # the server is a plain fake
            await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait([call])
    assert (await run_tool(_GET)).outcome is SandboxOutcome.OK


async def test_the_broker_is_an_ordinary_user_without_environment(sandbox):
    folder = Path(f"/proc/{sandbox.broker_pid}")
    fields = dict(
        line.split(":", 1) for line in (folder / "status").read_text("ascii").splitlines()
    )
    assert int(fields["CapEff"].strip(), 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Uid"].split()[0] != "0"
    assert (folder / "environ").read_bytes() == b"MALLOC_ARENA_MAX=2\0"


def _public_memory(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def test_the_canary_is_nowhere_a_tool_or_a_log_reader_can_look(sandbox, run_tool, policy):
    source = """
import gc, os, sys, urllib.request
def run(url, spelled):
    body = urllib.request.urlopen(url).read()
    canary = "".join(chr(code - 1) for code in spelled)
    where = [str(type(item)) for item in gc.get_objects() if canary in repr(item)[:100000]]
    return [where, canary in repr(dict(os.environ)), canary.encode() in body]
"""
    spelled = [ord(char) + 1 for char in _SECRET]
    with capture_logs() as logs:
        result = await run_tool(source, spelled=spelled)
    assert result.outcome is SandboxOutcome.OK, result.error
    assert result.value == [[], False, False]
    assert _SECRET not in repr(logs)
    shown = [
        _public_memory(pid, name)
        for pid in (sandbox.broker_pid, sandbox.zygote_pid)
        for name in ("cmdline", "environ")
    ]
    assert _SECRET.encode() not in b"".join(shown)


async def test_calls_side_by_side_get_their_own_answers(run_tool):
    source = """
import json, urllib.request
def run(url, number):
    with urllib.request.urlopen(f"{url}?n={number}") as answer:
        return json.load(answer)["path"]
"""
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(run_tool(source, number=number)) for number in range(12)]
    assert [call.result().value for call in calls] == [f"/echo?n={n}" for n in range(12)]


async def test_threads_of_one_tool_may_fetch_at_the_same_time(run_tool):
    source = """
import json, urllib.request
from concurrent.futures import ThreadPoolExecutor
def fetch(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)["path"]
def run(url):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(fetch, [f"{url}?n={n}" for n in range(8)]))
"""
    result = await run_tool(source)
    assert result.value == [f"/echo?n={n}" for n in range(8)], result.error


async def test_requests_of_one_tool_run_side_by_side(run_tool, upstream):
    source = """
import asyncio, httpx
async def all_of(url):
    async with httpx.AsyncClient(timeout=20) as client:
        answers = await asyncio.gather(*(client.get(f"{url}?n={n}") for n in range(6)))
        return [answer.json()["path"] for answer in answers]
def run(url):
    return asyncio.run(all_of(url))
"""
    started = time.monotonic()
    result = await run_tool(source, "/later")
    assert result.value == [f"/later?n={n}" for n in range(6)], result.error
    assert time.monotonic() - started < 6 * 0.5
