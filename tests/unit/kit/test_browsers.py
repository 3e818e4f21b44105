"""Web pages cannot call a service that is for programs."""

import pytest

from services.kit.browsers import NoBrowsersMiddleware

pytestmark = pytest.mark.anyio


async def status_of(server: str | None = "127.0.0.1", **headers: str) -> int:
    """HTTP status of a request through the middleware; 200 where it let it pass."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/invoke",
        "server": None if server is None else (server, 8002),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await NoBrowsersMiddleware(app)(scope, None, send)
    return sent[0]["status"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8002"])
async def test_whatever_names_an_origin_is_refused(origin):
    assert await status_of(host="127.0.0.1:8002", origin=origin) == 403


@pytest.mark.parametrize("server", ["127.0.0.1", "::1"])
async def test_a_public_name_that_was_bound_to_loopback_is_refused(server):
    assert await status_of(server, host="evil.example:8002") == 403


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("127.0.0.1", "127.0.0.1:8002"),
        ("127.0.0.1", "localhost:8002"),
        ("::1", "[::1]:8002"),
        ("10.0.0.7", "toolenv.default.svc.cluster.local:8000"),
        ("172.18.0.3", "toolenv:8000"),
        (None, "toolenv"),
    ],
)
async def test_programs_may_call(server, host):
    assert await status_of(server, host=host) == 200
