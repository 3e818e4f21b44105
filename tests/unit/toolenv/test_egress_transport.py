"""The guarded transport against servers on loopback, listed as private on purpose."""

import asyncio
import ssl
import time

import httpcore
import httpx
import pytest

from services.contracts.context import deadline_in
from services.toolenv.egress.errors import EgressRefused, NameNotResolved, ResponseTooLarge
from services.toolenv.egress.redaction import Redactor
from services.toolenv.egress.redirects import follow
from services.toolenv.egress.resolve import resolve
from services.toolenv.egress.transport import (
    SIZE_EXTENSION,
    EgressLimits,
    GuardedTransport,
    NameService,
)
from tests.fakes.certificates import make_authority
from tests.fakes.egress_upstream import serve_http2, serve_upstream

pytestmark = pytest.mark.anyio
_HOST = "api.example.org"


class _Resolver:
    """Gives its answers one after the other, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host, port):
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _client(*ports, limits=None, resolver=None, context=None):
    names = NameService(
        resolver=resolver or _Resolver(["127.0.0.1"]),
        allow_private=frozenset(f"{_HOST}:{port}" for port in ports),
    )
    limits = limits or EgressLimits(connect_s=2, total_s=5, response_bytes=1 << 20)
    return httpx.AsyncClient(
        transport=GuardedTransport(names=names, limits=limits, ssl_context=context),
        trust_env=False,
    )


@pytest.fixture
async def upstream():
    async with serve_upstream() as running:
        yield running


async def test_every_answer_of_the_resolver_must_be_public():
    mixed = _Resolver(["93.184.216.34", "10.0.0.7"])
    with pytest.raises(EgressRefused, match=r"'api.example.org \(10.0.0.7\)' is private"):
        await resolve(_HOST, 443, resolver=mixed, timeout_s=1)


async def test_a_literal_address_is_checked_without_resolving():
    resolver = _Resolver(["8.8.8.8"])
    assert await resolve("1.1.1.1", 443, resolver=resolver, timeout_s=1) == ("1.1.1.1",)
    with pytest.raises(EgressRefused):
        await resolve("127.0.0.1", 443, resolver=resolver, timeout_s=1)
    assert resolver.asked == 0


async def test_a_name_without_a_dot_is_of_the_local_network():
    with pytest.raises(
        EgressRefused, match="'metadata' is a name of the local network.*=metadata:80$"
    ):
        await resolve("metadata", 80, resolver=_Resolver(["8.8.8.8"]), timeout_s=1)


async def test_a_resolver_that_fails_or_hangs_is_a_typed_error():
    async def fail(host, port):
        raise OSError("no such host")

    async def hang(host, port):
        await asyncio.sleep(60)

    for resolver in (fail, hang, _Resolver([])):
        with pytest.raises(NameNotResolved):
            await resolve(_HOST, 443, resolver=resolver, timeout_s=0.1)


async def test_a_private_address_is_refused_before_any_byte_is_sent(upstream):
    async with _client() as client:
        with pytest.raises(EgressRefused, match="is loopback") as refused:
            await client.get(f"http://{_HOST}:{upstream.port}/echo")
    assert upstream.connections == 0
    assert str(refused.value).endswith(f"TOOLENV_ALLOW_PRIVATE={_HOST}:{upstream.port}")


class _Dialler(httpcore.AsyncNetworkBackend):
    """Records what is dialled, and fails."""

    def __init__(self):
        self.dialled = []

    async def connect_tcp(self, host, port, **_options):
        self.dialled.append(host)
        raise httpcore.ConnectError("nobody answers")


async def test_dns_that_changes_between_check_and_connect_has_no_effect():
    """The connection goes to the very answer that was checked; a later one is checked anew."""
    resolver, dialler = _Resolver(["203.0.114.1"], ["127.0.0.1"]), _Dialler()
    transport = GuardedTransport(names=NameService(resolver=resolver), backend=dialler)
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{_HOST}/")
        assert (resolver.asked, dialler.dialled) == (1, ["203.0.114.1"])
        with pytest.raises(EgressRefused, match="is loopback"):
            await client.get(f"http://{_HOST}/")
    assert dialler.dialled == ["203.0.114.1"]


async def test_at_most_three_addresses_are_tried():
    addresses = [f"93.184.216.{number}" for number in range(34, 44)]
    dialler = _Dialler()
    transport = GuardedTransport(names=NameService(resolver=_Resolver(addresses)), backend=dialler)
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://{_HOST}/")
    assert dialler.dialled == addresses[:3]


async def test_the_exception_for_private_hosts_is_for_one_port(upstream):
    async with _client(upstream.port) as client:
        assert (await client.get(f"http://{_HOST}:{upstream.port}/echo")).status_code == 200
        with pytest.raises(EgressRefused):
            await client.get(f"http://{_HOST}:{upstream.port + 1}/echo")


async def test_connections_are_kept_and_the_host_header_is_the_checked_one(upstream):
    async with _client(upstream.port) as client:
        for _ in range(3):
            answer = await client.get(
                f"http://{_HOST}:{upstream.port}/echo", headers={"Host": "internal.admin"}
            )
    assert answer.json()["headers"]["host"] == f"{_HOST}:{upstream.port}"
    assert (upstream.connections, len(upstream.requests)) == (1, 3)


async def test_a_compressed_body_arrives_decompressed(upstream):
    async with _client(upstream.port) as client:
        answer = await client.get(f"http://{_HOST}:{upstream.port}/gzip")
    assert answer.text == "plain text"
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("path", ["/bomb", "/one-line", "/announced"])
async def test_a_body_beyond_the_limit_is_a_typed_error(upstream, path):
    async with _client(upstream.port) as client:
        with pytest.raises(ResponseTooLarge, match="1048576 bytes"):
            await client.get(f"http://{_HOST}:{upstream.port}{path}")


async def test_one_request_may_lower_the_limit_but_not_raise_it(upstream):
    url = f"http://{_HOST}:{upstream.port}"
    async with _client(upstream.port) as client:
        with pytest.raises(ResponseTooLarge, match="limit of 10 bytes"):
            await client.get(f"{url}/html", extensions={SIZE_EXTENSION: 10})
        with pytest.raises(ResponseTooLarge, match="limit of 1048576 bytes"):
            await client.get(f"{url}/bomb", extensions={SIZE_EXTENSION: 1 << 40})


@pytest.mark.parametrize("path", ["/never", "/drip"])
async def test_a_server_that_takes_for_ever_ends_at_the_deadline(upstream, path):
    started = time.monotonic()
    async with _client(upstream.port) as client:
        with deadline_in(0.5), pytest.raises(httpx.ReadTimeout):
            await client.get(f"http://{_HOST}:{upstream.port}{path}")
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("path", ["/cut", "/garbage", "/brotli"])
async def test_a_broken_answer_is_an_error_of_httpx(upstream, path):
    async with _client(upstream.port) as client:
        with pytest.raises(httpx.RequestError):
            await client.get(f"http://{_HOST}:{upstream.port}{path}")


async def test_a_closed_port_is_a_connection_error():
    async with _client(9) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{_HOST}:9/")


async def test_tls_verifies_the_name_although_the_connection_goes_to_an_address(tmp_path):
    authority, server_context = make_authority(tmp_path, _HOST)
    trusting = ssl.create_default_context(cafile=authority)
    async with serve_upstream(server_context) as upstream:
        async with _client(upstream.port, context=trusting) as client:
            answer = await client.get(f"https://{_HOST}:{upstream.port}/echo")
        assert answer.status_code == 200
        async with _client(upstream.port) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(f"https://{_HOST}:{upstream.port}/echo")
        names = NameService(
            static_hosts={"other.example.org": "127.0.0.1"},
            allow_private=frozenset({f"other.example.org:{upstream.port}"}),
        )
        wrong_name = GuardedTransport(names=names, ssl_context=trusting)
        async with httpx.AsyncClient(transport=wrong_name) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(f"https://other.example.org:{upstream.port}/echo")


async def test_http_2_is_spoken_and_one_connection_serves_many_requests(tmp_path):
    authority, server_context = make_authority(tmp_path, _HOST)
    async with serve_http2(server_context) as upstream:
        trusting = ssl.create_default_context(cafile=authority)
        async with _client(upstream.port, context=trusting) as client:
            url = f"https://{_HOST}:{upstream.port}/x"
            await client.get(url)
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(client.get(url)) for _ in range(5)]
    assert [(call.result().text, call.result().http_version) for call in calls] == [
        ("two", "HTTP/2")
    ] * 5
    assert (upstream.connections, len(upstream.requests)) == (1, 6)


def _to(port, target):
    return f"http://{_HOST}:{port}/redirect?to={target}"


async def test_a_redirect_to_cloud_metadata_is_refused_although_any_host_is_listed(upstream):
    async with _client(upstream.port) as client:
        request = client.build_request("GET", _to(upstream.port, "http://169.254.169.254/latest"))
        with pytest.raises(EgressRefused, match="link-local, where cloud metadata lives"):
            await follow(client, request, is_allowed=lambda target: True)


async def test_a_redirect_outside_the_list_is_refused(upstream):
    async with _client(upstream.port) as client:
        request = client.build_request("GET", _to(upstream.port, "https://evil.example.com/"))
        with pytest.raises(EgressRefused, match="not on the tool's list"):
            await follow(client, request, is_allowed=lambda target: target.host == _HOST)


async def test_redirects_end_after_the_limit(upstream):
    loop = _to(upstream.port, "/echo").replace("/echo", "/redirect?to=/echo")
    async with _client(upstream.port) as client:
        request = client.build_request("GET", loop)
        with pytest.raises(EgressRefused, match="redirects more than 0 times"):
            await follow(client, request, is_allowed=lambda target: True, max_redirects=0)


async def test_secrets_stay_with_their_host_and_a_post_becomes_a_get(upstream):
    async with serve_upstream() as second, _client(upstream.port, second.port) as client:
        there = f"http://{_HOST}:{second.port}/echo"
        request = client.build_request(
            "POST",
            _to(upstream.port, there),
            content=b"x=1",
            headers={"Authorization": "Bearer k", "X-RapidAPI-Key": "k", "Accept": "a/b"},
        )
        answer = await follow(
            client, request, is_allowed=lambda _: True, secret_headers=["X-RapidAPI-Key"]
        )
        seen = (await answer.aread(), second.requests[0])[1]
    assert upstream.requests[0]["headers"]["x-rapidapi-key"] == "k"
    assert (seen["method"], seen["body"]) == ("GET", "")
    assert seen["headers"]["accept"] == "a/b"
    assert not {"authorization", "x-rapidapi-key", "content-length"} & set(seen["headers"])


async def test_a_redirect_on_the_same_host_keeps_its_headers(upstream):
    async with _client(upstream.port) as client:
        request = client.build_request("GET", _to(upstream.port, "/echo"), headers={"X-Key": "k"})
        answer = await follow(client, request, is_allowed=lambda _: True, secret_headers=["x-key"])
        await answer.aread()
    assert answer.json()["headers"]["x-key"] == "k"


async def test_a_redirect_that_carries_a_secret_away_is_refused(upstream):
    async with _client(upstream.port) as client:
        target = "https://elsewhere.example.com/?k=s3cr3t-value"
        request = client.build_request("GET", _to(upstream.port, target))
        with pytest.raises(EgressRefused, match="carries a secret to another host"):
            await follow(
                client,
                request,
                is_allowed=lambda _: True,
                secrets=Redactor(["s3cr3t-value"]),
            )
