"""Calls of HTTP APIs against a real server on loopback: credentials, retries, redirects, bodies."""

import asyncio
import base64
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from services.contracts.apis import SideEffect
from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.egress.targets import is_in_clear
from services.toolenv.endpoints import AuthPlacement, EndpointParameter
from services.toolenv.executors.base import Declined
from services.toolenv.executors.http import HttpCaller, HttpLimits
from services.toolenv.executors.providers import ProviderLimits, Providers
from services.toolenv.invocation import prepare
from tests.fakes.live_api import (
    LOOPBACK,
    RAPIDAPI_KEY,
    Keyring,
    answer,
    dropped,
    echo_secrets,
    in_turn,
    live_entry,
    serve_api,
)

pytestmark = pytest.mark.anyio
KEY = "canary-0a1b2c3d4e5f/+=="
FAST = ProviderLimits(rate_per_s=10_000, burst=1000)


@asynccontextmanager
async def caller(
    limits: HttpLimits | None = None, provider: ProviderLimits = FAST, **secrets: str
) -> AsyncIterator[HttpCaller]:
    async with httpx.AsyncHTTPTransport(http2=True) as transport:
        yield HttpCaller(
            transport,
            credentials=Keyring(**secrets),
            providers=Providers(provider),
            limits=limits,
            clear_hosts=LOOPBACK,
        )


async def ask(
    url: str,
    arguments: dict[str, Any] | None = None,
    *,
    limits: HttpLimits | None = None,
    user: str | None = None,
    secrets: dict[str, str] | None = None,
    **entry: Any,
) -> Observation:
    invocation = prepare(live_entry(url, **entry), json.dumps(arguments or {}), user=user)
    async with caller(limits, **(secrets or {})) as http:
        observation = await http.call(invocation)
    assert isinstance(observation, Observation)
    return observation


def error_of(observation: Observation) -> str:
    return str(json.loads(observation.content)["error"])


def response_of(observation: Observation) -> Any:
    return json.loads(observation.content)["response"]


async def test_an_answer_is_labelled_live_with_its_http_status_and_latency() -> None:
    async with serve_api(ok=answer('{"temp": 21, "error": null}', delay_s=0.05)) as api:
        observation = await ask(f"{api.url}/ok")
    assert observation.content == '{"error": "", "response": {"temp": 21, "error": null}}'
    assert (observation.status, observation.source) == (CallStatus.OK, "live")
    assert (observation.upstream_status, observation.retry_after_s) == (200, None)
    assert 0.05 <= observation.latency_s < 5


async def test_arguments_and_credentials_go_where_the_endpoint_says() -> None:
    parameters = (
        EndpointParameter("City", "path"),
        EndpointParameter("days", "query"),
        EndpointParameter("X-Lang", "header"),
    )
    async with serve_api(other=answer("{}")) as api:
        await ask(
            f"{api.url}/w/{{City}}",
            {"city": "A/B", "days": 3, "x_lang": "de"},
            parameters=parameters,
            headers=(("X-RapidAPI-Host", "w.p.rapidapi.com"),),
            auth=(RAPIDAPI_KEY,),
            secrets={"rapidapi": KEY},
        )
        request = api.received[0]
    assert request.target == "/w/A%2FB?days=3"
    assert request.headers["x-lang"] == "de"
    assert request.headers["x-rapidapi-key"] == KEY
    assert request.headers["x-rapidapi-host"] == "w.p.rapidapi.com"


@pytest.mark.parametrize(
    ("placement", "where", "expected"),
    [
        (AuthPlacement("k", "bearer"), "authorization", "Bearer s3cret:x"),
        (AuthPlacement("k", "basic"), "authorization", "Basic czNjcmV0Ong="),
        (AuthPlacement("k", "header", "X-K", "Token "), "x-k", "Token s3cret:x"),
        (AuthPlacement("k", "cookie", "sid"), "cookie", "sid=s3cret:x"),
    ],
)
async def test_every_kind_of_credential_has_its_place(
    placement: AuthPlacement, where: str, expected: str
) -> None:
    async with serve_api(ok=answer("{}")) as api:
        await ask(f"{api.url}/ok", auth=(placement,), secrets={"k": "s3cret:x\n"})
        assert api.received[0].headers[where] == expected


async def test_a_users_own_credential_comes_first() -> None:
    secrets = {"rapidapi": "shared-key", "rapidapi_ann": "anns-key"}
    async with serve_api(ok=answer("{}")) as api:
        for user in ("ann", None):
            await ask(f"{api.url}/ok", auth=(RAPIDAPI_KEY,), secrets=secrets, user=user)
        sent = [request.headers["x-rapidapi-key"] for request in api.received]
    assert sent == ["anns-key", "shared-key"]


async def test_without_the_credential_nothing_is_sent_and_the_next_source_may_be_asked() -> None:
    async with serve_api(ok=answer("{}")) as api, caller() as http:
        entry = live_entry(f"{api.url}/ok", auth=(RAPIDAPI_KEY,))
        declined = await http.call(prepare(entry, "{}"))
        assert api.received == []
    assert isinstance(declined, Declined)
    assert "no credential 'rapidapi'" in declined.reason
    assert "`toolwright credentials set rapidapi`" in declined.reason


async def test_an_optional_credential_may_be_missing() -> None:
    async with serve_api(ok=answer("{}")) as api:
        observation = await ask(f"{api.url}/ok", auth=(RAPIDAPI_KEY,), is_auth_optional=True)
    assert observation.status is CallStatus.OK


async def test_a_credential_that_would_break_out_of_its_header_is_not_sent() -> None:
    async with serve_api(ok=answer("{}")) as api, caller(rapidapi="a\r\nX-Admin: 1") as http:
        declined = await http.call(prepare(live_entry(f"{api.url}/ok", auth=(RAPIDAPI_KEY,)), ""))
        assert api.received == []
    assert isinstance(declined, Declined)
    assert "line break" in declined.reason


async def test_wrong_arguments_are_named_and_nothing_is_sent() -> None:
    async with serve_api(other=answer("{}")) as api:
        observation = await ask(
            f"{api.url}/{{x}}", {}, parameters=(EndpointParameter("x", "path"),)
        )
        assert api.received == []
    assert observation.status is CallStatus.INVALID_ARGUMENTS
    assert "'x'" in observation.content


@pytest.mark.parametrize(
    "transform",
    [
        str,
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: base64.urlsafe_b64encode(b"user:" + key.encode()).decode(),
        lambda key: key[::-1],
        lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
        lambda key: key.encode().hex(),
    ],
)
async def test_a_secret_that_the_api_sends_back_reaches_nobody(
    transform: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with serve_api(echo=echo_secrets(transform=transform)) as api:
        observation = await ask(f"{api.url}/echo", auth=(RAPIDAPI_KEY,), secrets={"rapidapi": KEY})
    text = observation.model_dump_json() + caplog.text
    assert "[redacted]" in observation.content
    assert KEY not in text
    assert transform(KEY)[4:-6] not in text


async def test_a_secret_in_the_query_is_in_no_error_text_and_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    placement = AuthPlacement("k", "query", "api_key")
    async with serve_api(ok=answer("{}")) as api:
        await ask(f"{api.url}/ok", auth=(placement,), secrets={"k": "s3cret-key"})
        assert api.received[0].target == "/ok?api_key=s3cret-key"
    observation = await ask("http://127.0.0.1:1/x", auth=(placement,), secrets={"k": "s3cret-key"})
    assert observation.status is CallStatus.API_NOT_WORKING
    assert "s3cret" not in observation.content
    assert "api_key" not in observation.content
    assert "s3cret" not in caplog.text


async def test_one_users_cookies_are_not_sent_with_the_next_call() -> None:
    async with serve_api(ok=answer("{}", set_cookie="sid=of-ann; Path=/")) as api, caller() as http:
        for _ in range(2):
            await http.call(prepare(live_entry(f"{api.url}/ok"), "{}"))
        assert "cookie" not in api.received[1].headers


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, '{"message": "Invalid API key. Go to https:..."}', CallStatus.UNAUTHORIZED),
        (403, '{"message": "You are not subscribed to this API."}', CallStatus.UNSUBSCRIBED),
        (
            403,
            '{"message": "Blocked User. Please contact your API provider."}',
            CallStatus.BLOCKED,
        ),
        (404, '{"message": "API doesn\'t exists"}', CallStatus.API_NOT_WORKING),
        (404, '{"message": "No such city"}', CallStatus.TOOL_ERROR),
        (422, '{"detail": "days must be at most 10"}', CallStatus.TOOL_ERROR),
        (500, "oops", CallStatus.API_NOT_WORKING),
    ],
)
async def test_a_refusal_keeps_the_apis_own_words(
    status: int, body: str, expected: CallStatus
) -> None:
    async with serve_api(no=answer(body, status=status)) as api:
        observation = await ask(f"{api.url}/no")
    assert observation.status is expected
    assert (observation.upstream_status, observation.source) == (status, "live")
    assert f"HTTP {status}" in error_of(observation)
    assert response_of(observation) in (body, json.loads(body) if body[0] == "{" else body)


@pytest.mark.parametrize(
    ("method", "effect", "requests"),
    [
        ("GET", None, 2),
        ("PUT", None, 2),
        ("POST", SideEffect.READ, 2),
        ("POST", None, 1),
        ("GET", SideEffect.WRITE, 1),
        ("DELETE", SideEffect.IRREVERSIBLE, 1),
    ],
)
@pytest.mark.parametrize("failure", [dropped, answer("busy", status=503)])
async def test_only_a_call_that_is_safe_to_repeat_is_sent_again(
    method: str, effect: SideEffect | None, requests: int, failure: Any
) -> None:
    async with serve_api(x=in_turn(failure, answer('{"done": 1}'))) as api:
        observation = await ask(f"{api.url}/x", method=method, effect=effect)
        assert len(api.received) == requests
    assert (observation.status is CallStatus.OK) == (requests == 2)


async def test_a_write_that_was_committed_and_then_dropped_has_one_effect() -> None:
    async with serve_api(pay=dropped) as api:
        observation = await ask(f"{api.url}/pay", method="POST")
        assert api.paths() == ["/pay"]
    assert observation.status is CallStatus.REQUEST_FAILED
    assert "not known, so it was not repeated" in error_of(observation)


async def test_a_write_that_never_left_is_tried_again() -> None:
    attempts: list[str] = []

    class Flaky(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            attempts.append(request.method)
            if len(attempts) == 1:
                raise httpx.ConnectError("refused")
            return await super().handle_async_request(request)

    async with serve_api(pay=answer("{}")) as api, Flaky() as transport:
        live = HttpCaller(transport, credentials=Keyring())
        observation = await live.call(prepare(live_entry(f"{api.url}/pay", method="POST"), "{}"))
        assert len(api.received) == 1
    assert isinstance(observation, Observation)
    assert (observation.status, attempts) == (CallStatus.OK, ["POST", "POST"])


async def test_retry_after_is_waited_for_where_it_fits() -> None:
    busy = answer('{"message": "Too many requests"}', status=429, retry_after="1")
    started = time.perf_counter()
    async with serve_api(x=in_turn(busy, answer('{"done": 1}'))) as api:
        observation = await ask(f"{api.url}/x")
        assert len(api.received) == 2
    assert observation.status is CallStatus.OK
    assert 1.0 <= time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "value", ["120", "120.0", format_datetime(datetime(2030, 1, 1, 0, 2, tzinfo=UTC), usegmt=True)]
)
async def test_a_longer_retry_after_is_told_and_kept_for_the_next_call(value: str) -> None:
    dated = format_datetime(datetime(2030, 1, 1, tzinfo=UTC), usegmt=True)
    busy = answer("{}", status=429, retry_after=value, date=dated)
    async with serve_api(x=busy) as api, caller() as http:
        invocation = prepare(live_entry(f"{api.url}/x"), "{}")
        first = await http.call(invocation)
        second = await http.call(invocation)
        assert len(api.received) == 1
    assert isinstance(first, Observation) and isinstance(second, Observation)
    assert (first.status, first.retry_after_s) == (CallStatus.TOO_MANY_REQUESTS, 120.0)
    assert (second.status, second.source) == (CallStatus.RATE_LIMITED, "error")
    assert "asked for a pause" in error_of(second)


async def test_a_pause_is_for_the_credentials_that_were_used() -> None:
    first_only = in_turn(answer("{}", status=429, retry_after="100"), answer('{"a": 1}'))
    async with serve_api(x=first_only) as api, caller(rapidapi="a-key", rapidapi_ann="anns") as h:
        entry = live_entry(f"{api.url}/x", auth=(RAPIDAPI_KEY,))
        await h.call(prepare(entry, "{}"))
        other = await h.call(prepare(entry, "{}", user="ann"))
    assert isinstance(other, Observation)
    assert other.status is CallStatus.OK


async def test_a_pause_that_does_not_fit_into_the_deadline_is_told_at_once() -> None:
    started = time.perf_counter()
    async with serve_api(x=answer("{}", status=503, retry_after="2")) as api:
        with deadline_in(1.0):
            observation = await ask(f"{api.url}/x")
        assert len(api.received) == 1
    assert time.perf_counter() - started < 1.0
    assert (observation.status, observation.retry_after_s) == (CallStatus.API_NOT_WORKING, 2.0)


async def test_an_absurd_retry_after_is_capped() -> None:
    async with serve_api(x=answer("{}", status=429, retry_after="1e12")) as api:
        observation = await ask(f"{api.url}/x")
    assert observation.retry_after_s == 300.0


async def test_a_get_follows_redirects_and_leaves_credentials_at_another_host() -> None:
    async with serve_api(other=answer('{"final": true}')) as target:
        moved = answer("", status=302, location=f"http://localhost:{target.port}/there?a=1")
        async with serve_api(x=moved) as api:
            observation = await ask(
                f"{api.url}/x",
                {"x_lang": "de"},
                parameters=(EndpointParameter("X-Lang", "header"),),
                auth=(RAPIDAPI_KEY,),
                secrets={"rapidapi": KEY},
            )
        request = target.received[0]
    assert observation.status is CallStatus.OK
    assert request.target == "/there?a=1"
    assert "x-rapidapi-key" not in request.headers
    assert "x-lang" not in request.headers


async def test_a_redirect_on_the_same_host_keeps_the_credentials() -> None:
    async with serve_api(x=answer("", status=308, location="/y"), y=answer("{}")) as api:
        await ask(f"{api.url}/x", auth=(RAPIDAPI_KEY,), secrets={"rapidapi": KEY})
        assert api.received[1].headers["x-rapidapi-key"] == KEY


@pytest.mark.parametrize(
    ("location", "method", "reason"),
    [
        ("/x", "GET", "more than 5 redirects"),
        ("/y", "POST", "POST may have an effect"),
        ("file:///etc/passwd", "GET", "must be http or https"),
        ("http://user:pw@127.0.0.1/", "GET", "without user name"),
        ("http://[::bad/", "GET", "invalid address"),
        (f"http://localhost/?k={KEY}", "GET", "carries a secret"),
    ],
)
async def test_a_redirect_that_is_not_followed_is_a_typed_failure(
    location: str, method: str, reason: str
) -> None:
    async with serve_api(x=answer("", status=307, location=location), y=answer("{}")) as api:
        observation = await ask(
            f"{api.url}/x", method=method, auth=(RAPIDAPI_KEY,), secrets={"rapidapi": KEY}
        )
        assert "/y" not in api.paths()
    assert observation.status is CallStatus.REQUEST_FAILED
    assert reason in error_of(observation)
    assert "pw" not in observation.content


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"plain", "text/plain", "plain"),
        ("é".encode("latin-1"), "text/plain; charset=iso-8859-1", "é"),
        ("é".encode(), "text/plain; charset=rot13", "é"),
        ('\ufeff{"a": "天"}'.encode(), "application/json", {"a": "天"}),
        ('{"a": "天"}'.encode("utf-16"), "application/json; charset=utf-16", {"a": "天"}),
        (b'{"a": NaN, "b": 1e999}', "text/html", {"a": None, "b": None}),
        (b"", "application/json", ""),
        (b"9" * 5000, "application/json", "9" * 5000),
    ],
)
async def test_bodies_are_decoded_by_what_they_are(
    body: bytes, content_type: str, expected: Any
) -> None:
    async with serve_api(x=answer(body, content_type=content_type)) as api:
        observation = await ask(f"{api.url}/x")
    assert (observation.status, response_of(observation)) == (CallStatus.OK, expected)


async def test_a_binary_body_is_described_instead_of_shown() -> None:
    async with serve_api(x=answer(b"\x89PNG\x00" * 9, content_type="image/png")) as api:
        shown = response_of(await ask(f"{api.url}/x"))
    assert (shown["content_type"], shown["size_bytes"]) == ("image/png", 45)
    assert len(shown["sha256"]) == 64


async def test_json_that_is_promised_and_broken_is_a_failed_request() -> None:
    async with serve_api(x=answer('{"a": 1')) as api:
        observation = await ask(f"{api.url}/x")
    assert observation.status is CallStatus.REQUEST_FAILED
    assert response_of(observation) == '{"a": 1'


async def test_a_compressed_body_is_unfolded_up_to_the_limit() -> None:
    small, bomb = gzip.compress(b'{"a": 1}'), gzip.compress(b"a" * 30_000_000)
    limits = HttpLimits(max_body_bytes=100_000)
    async with serve_api(
        small=answer(small, content_encoding="gzip"), bomb=answer(bomb, content_encoding="gzip")
    ) as api:
        assert response_of(await ask(f"{api.url}/small")) == {"a": 1}
        observation = await ask(f"{api.url}/bomb", limits=limits)
    assert observation.status is CallStatus.OUTPUT_LIMIT
    assert response_of(observation).startswith("aaaa")


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_a_body_in_a_compression_nobody_asked_for_is_a_failed_request(encoding: str) -> None:
    async with serve_api(x=answer(b"garbage!", content_encoding=encoding)) as api:
        observation = await ask(f"{api.url}/x")
    assert observation.status is CallStatus.REQUEST_FAILED


@pytest.mark.parametrize("depth", [500, 900, 960, 990, 100_000])
@pytest.mark.parametrize("status", [200, 500])
async def test_depth_gives_a_typed_outcome(depth: int, status: int) -> None:
    body = '{"error": ' + "[" * depth + f'"{KEY}"' + "]" * depth + "}"
    async with serve_api(x=answer(body, status=status)) as api:
        observation = await ask(f"{api.url}/x", auth=(RAPIDAPI_KEY,), secrets={"rapidapi": KEY})
    assert observation.upstream_status == status
    assert KEY not in observation.content


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    async with serve_api(x=answer("{}")) as api:
        with deadline_in(-1), pytest.raises(DeadlineExceeded):
            await ask(f"{api.url}/x")
        assert api.received == []


async def test_a_cancelled_call_frees_its_place() -> None:
    provider = ProviderLimits(concurrency=1, rate_per_s=1000)
    async with (
        serve_api(x=in_turn(answer("{}", delay_s=30), answer('{"a": 1}'))) as api,
        caller(provider=provider) as http,
    ):
        invocation = prepare(live_entry(f"{api.url}/x"), "{}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await http.call(invocation)
        observation = await http.call(invocation)
    assert isinstance(observation, Observation)
    assert observation.status is CallStatus.OK


@pytest.mark.parametrize(
    ("url", "allowed", "is_clear"),
    [
        ("http://api.example.com/{city}", [], True),
        ("http://api.example.com/{city}", ["api.example.com:80"], False),
        ("http://127.0.0.1:8080/", ["127.0.0.1:8080"], False),
        ("https://api.example.com/", [], False),
        ("not a url", [], False),
    ],
)
def test_what_would_travel_unencrypted_is_known_before_it_is_sent(
    url: str, allowed: list[str], is_clear: bool
) -> None:
    assert is_in_clear(url, allowed) is is_clear
