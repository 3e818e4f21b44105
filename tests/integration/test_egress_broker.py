"""The broker process by itself: start, privileges, end."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.toolenv.sandbox import BrokerOptions
from services.toolenv.sandbox.brokerlink import BrokerGone, BrokerLink
from services.toolenv.sandbox.brokerwire import BrokerOrder
from tests.fakes.certificates import make_authority
from tests.fakes.egress_upstream import serve_http2

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

_SECRET = "canary-rapid-key-0123456789"
_HOST = "weather.p.rapidapi.com"


def _order(url: str, timeout_s: float = 10.0) -> BrokerOrder:
    return BrokerOrder(
        reply_to=1,
        method="GET",
        url=url,
        headers=[],
        body="",
        redact=[_SECRET],
        timeout_s=timeout_s,
        max_response_bytes=1 << 20,
        frame_bytes=2 << 20,
    )


async def test_a_broker_that_cannot_start_is_a_typed_error_and_is_not_tried_at_once_again(
    tmp_path,
):
    link = BrokerLink(BrokerOptions(ca_file=tmp_path / "missing.pem"), dedicated_uid=None)
    with capture_logs() as logs, pytest.raises(BrokerGone, match="did not start"):
        await link.fetch(_order("https://api.example.org/"))
    started = time.monotonic()
    with pytest.raises(BrokerGone):
        await link.fetch(_order("https://api.example.org/"))
    assert time.monotonic() - started < 0.1
    assert "FileNotFoundError" in logs[0]["error"]
    await link.aclose()


async def test_a_broker_speaks_http_2_as_an_ordinary_user(tmp_path):
    authority = make_authority(tmp_path, _HOST)
    async with serve_http2(authority.server_context) as server:
        options = BrokerOptions(
            allow_private=frozenset({f"{_HOST}:{server.port}"}),
            static_hosts={_HOST: "127.0.0.1"},
            ca_file=authority.file,
        )
        link = BrokerLink(options, dedicated_uid=64064 if os.geteuid() == 0 else None)
        answer = await link.fetch(_order(f"https://{_HOST}:{server.port}/x"))
        await link.aclose()
    assert (answer.note.status, len(server.requests)) == (200, 1)


async def test_a_broker_ends_with_its_host_and_leaves_no_process():
    link = BrokerLink(BrokerOptions(), dedicated_uid=None)
    await link.warm_up()
    pid = link.pid
    await link.aclose()
    assert link.pid is None
    assert not os.path.exists(f"/proc/{pid}")  # noqa: ASYNC240


async def test_closing_in_the_middle_of_a_start_leaves_no_process():
    link = BrokerLink(BrokerOptions(), dedicated_uid=None)
    start = asyncio.create_task(link.warm_up())
    await asyncio.sleep(0.05)
    await link.aclose()
    await asyncio.wait([start], timeout=5)
    assert start.cancelled()
    assert not [line for line in _command_lines() if b"sandbox.broker import main" in line]


def _command_lines() -> list[bytes]:
    """Command lines of this process's children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()
    return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]


async def test_a_name_that_does_not_exist_is_a_connection_error():
    link = BrokerLink(BrokerOptions(), dedicated_uid=None)
    answer = await link.fetch(_order("https://no-such-host.invalid/", timeout_s=8.0))
    await link.aclose()
    assert answer.note.status == 0
    assert answer.note.kind in {"connection", "timeout"}
    assert b"no-such-host.invalid" in answer.frame
