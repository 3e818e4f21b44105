"""Which web pages may call a gateway."""

import pytest

from gateway.security import SameOriginMiddleware
from services.contracts.errors import Unavailable

pytestmark = pytest.mark.anyio


async def status_of(*, origin: str | None, host: str, allowed: tuple[str, ...] = ()) -> int:
    """HTTP status of a request through the middleware; 200 where it let it pass."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        raise Unavailable("the middleware reads no body")

    async def send(message):
        sent.append(message)

    headers = [(b"host", host.encode())]
    headers += [(b"origin", origin.encode())] if origin is not None else []
    scope = {"type": "http", "method": "POST", "path": "/stream", "headers": headers}
    await SameOriginMiddleware(app, allowed_origins=allowed)(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "[::1]:5000", "localhost:5000", "gateway:8000"])
async def test_its_own_page_may_call_it(host):
    assert await status_of(origin=f"http://{host}", host=host) == 200


async def test_a_program_that_names_no_origin_may_call_it():
    assert await status_of(origin=None, host="anything.example:5000") == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:9999", "http://[bad"]
)
async def test_a_foreign_page_may_not(origin):
    assert await status_of(origin=origin, host="127.0.0.1:5000") == 403


async def test_a_name_that_foreign_dns_bound_to_this_machine_is_no_own_origin():
    assert await status_of(origin="http://evil.example:5000", host="evil.example:5000") == 403


async def test_an_origin_named_in_the_settings_may_call_it():
    allowed = ("https://tools.example.org",)
    status = await status_of(
        origin="https://tools.example.org", host="tools.example.org", allowed=allowed
    )
    assert status == 200


async def status_of_read(*, host: str, server: str, allowed: tuple[str, ...] = ()) -> int:
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    headers = [(b"host", host.encode())]
    scope = {"type": "http", "method": "GET", "path": "/v1/tools", "headers": headers}
    scope |= {"server": (server, 5000), "scheme": "http"}
    await SameOriginMiddleware(app, allowed_origins=allowed)(scope, None, send)
    return sent[0]["status"]


async def test_a_public_name_that_was_bound_to_loopback_reads_nothing():
    assert await status_of_read(host="evil.example:5000", server="127.0.0.1") == 403


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost:5000", "[::1]:5000", "gateway:8000"])
async def test_local_names_read_on_loopback(host):
    assert await status_of_read(host=host, server="127.0.0.1") == 200


async def test_a_public_name_reads_where_the_gateway_is_public_or_the_name_is_allowed():
    name = "tools.example"
    assert await status_of_read(host=name, server="10.0.0.7") == 200
    allowed = (f"https://{name}",)
    assert await status_of_read(host=name, server="127.0.0.1", allowed=allowed) == 200
