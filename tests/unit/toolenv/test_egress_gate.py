"""What the host believes of an `http` frame: nothing."""

import asyncio
import base64
import json

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.toolenv.egress.policy import EgressPolicy, HostRule, Injection
from services.toolenv.sandbox.brokerlink import BrokerAnswer, BrokerGone
from services.toolenv.sandbox.brokerwire import Note
from services.toolenv.sandbox.frames import FrameError
from services.toolenv.sandbox.gate import Gate

pytestmark = pytest.mark.anyio
_SECRET = "real-rapid-key-1234"
_POLICY = EgressPolicy(
    "weather",
    (
        HostRule("api.example.org", injections=(Injection("header", "X-Key", SecretStr(_SECRET)),)),
        HostRule("open.example.org"),
    ),
)


class _Broker:
    def __init__(self):
        self.orders = []
        self.is_gone = False
        self.delay_s = 0.0
        self.cancelled = 0

    async def fetch(self, order):
        self.orders.append(order)
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.is_gone:
            raise BrokerGone("the egress broker ended during the request; try again")
        return BrokerAnswer(Note(200, "", 12), b"frame")


class _Worker:
    """Sends its messages, then a result; keeps the frames it gets."""

    def __init__(self, *messages):
        self.messages = [*messages, {"t": "result"}]
        self.frames = []
        self.is_patient = True

    async def receive(self):
        await asyncio.sleep(0.01 * self.is_patient)  # an honest tool waits for its answers
        return self.messages.pop(0)

    async def send(self, frame):
        self.frames.append(frame)


async def _ask(gate, *messages):
    """The frames that answer the messages."""
    worker = _Worker(*messages)
    await gate.serve(worker, await worker.receive())
    return worker.frames


def _message(**changes):
    message = {
        "t": "http",
        "id": 7,
        "method": "GET",
        "url": "https://api.example.org/x?q=private",
        "headers": [["Accept", "*/*"]],
        "body": "",
        "timeout_s": None,
    }
    return message | changes


@pytest.fixture
def broker():
    return _Broker()


@pytest.fixture
def gate(broker):
    return Gate(_POLICY, broker, left_s=lambda: 10.0, frame_bytes=1 << 20)


def _error(frame):
    return json.loads(frame[4:])["error"]


async def test_a_good_request_is_passed_on_with_the_secret(gate, broker):
    assert await _ask(gate, _message(headers=[["x-key", "placeholder"]])) == [b"frame"]
    (order,) = broker.orders
    assert order.headers == [("X-Key", _SECRET)]
    assert order.redact == [_SECRET]
    assert 9.0 < order.timeout_s < 10.0


async def test_the_secret_goes_to_its_own_host_only(gate, broker):
    await _ask(gate, _message(url="https://open.example.org/"))
    assert _SECRET not in str(broker.orders[0].headers)
    assert broker.orders[0].redact == [_SECRET]


async def test_the_log_names_the_request_and_shows_neither_query_nor_secret(gate):
    with capture_logs() as logs:
        await _ask(gate, _message())
        await _ask(gate, _message(url="https://evil.example.com/?q=private"))
    assert [entry["event"] for entry in logs] == ["egress_request", "egress_refused"]
    assert (logs[0]["tool"], logs[0]["host"], logs[0]["status"]) == (
        "weather",
        "api.example.org:443",
        200,
    )
    assert "private" not in str(logs)
    assert _SECRET not in str(logs)


def test_an_order_does_not_show_its_secrets(broker):
    from services.toolenv.sandbox.brokerwire import BrokerOrder

    order = BrokerOrder(1, "GET", f"https://a.org/?k={_SECRET}", [], "", [_SECRET], 1.0, 1, 1)
    assert _SECRET not in f"{order!r} {order}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"url": "https://evil.example.com/"}, "not on the tool's list"),
        ({"url": "http://api.example.org/"}, "does not use https"),
        ({"url": "https://api.example.org:8443/"}, "not on the tool's list"),
        ({"url": "https://169.254.169.254/"}, "not on the tool's list"),
        ({"url": "https://2852039166/"}, "unusual way"),
        ({"url": "https://api.example.org@evil.com/"}, "user information"),
        ({"url": "https://api.example.org/\r\nHost: x"}, "control character"),
        ({"method": "CONNECT"}, "no allowed method"),
        ({"method": "GET / HTTP/1.1\r\nX: y\r\n"}, "no allowed method"),
        ({"headers": [["Host", "internal"]]}, "may not set"),
        ({"headers": [["Transfer-Encoding", "chunked"]]}, "may not set"),
        ({"headers": [["Connection", "close"]]}, "may not set"),
        ({"headers": [["Proxy-Authorization", "x"]]}, "may not set"),
        ({"headers": [["X-Forwarded-For", "127.0.0.1"]]}, "may not set"),
        ({"headers": [["Forwarded", "for=127.0.0.1"]]}, "may not set"),
        ({"headers": [[":authority", "x"]]}, "no header name"),
        ({"headers": [["X-A", "b\r\nX-Injected: 1"]]}, "line break"),
        ({"headers": [["X-A", "b\nc"]]}, "line break"),
        ({"headers": [["X-A", "b\x00c"]]}, "line break"),
        ({"headers": [["X-A", "日本"]]}, "non-Latin"),
        ({"headers": [["X A", "b"]]}, "no header name"),
        ({"headers": [["X-A\r\nX-B", "b"]]}, "no header name"),
        ({"headers": [["X-A", "b"]] * 65}, "request headers"),
        ({"headers": [["X-A", "b" * 40_000]]}, "request headers"),
        ({"body": base64.b64encode(bytes((1 << 20) + 1)).decode()}, "more than 1048576"),
        ({"timeout_s": -1}, "no time left"),
    ],
)
async def test_a_request_outside_the_rules_is_refused_and_never_sent(
    gate, broker, changes, expected
):
    assert expected in _error(*await _ask(gate, _message(**changes)))
    assert broker.orders == []


@pytest.mark.parametrize(
    "message",
    [
        {"t": "http"},
        _message(extra=1),
        _message(method=None),
        _message(url=["https://api.example.org"]),
        _message(body={"a": 1}),
        _message(body="not base64 !"),
        _message(body="QQ"),
        _message(headers=None),
        _message(headers={"Accept": "x"}),
        _message(headers=[["one"]]),
        _message(headers=[["one", 2]]),
        _message(timeout_s="5"),
        _message(timeout_s=True),
        _message(timeout_s=[1]),
        _message(id="1"),
        _message(id=True),
        _message(id=0),
        _message(id=1 << 40),
    ],
)
async def test_a_frame_of_another_shape_ends_the_call(gate, broker, message):
    with pytest.raises(FrameError):
        await _ask(gate, message)
    assert broker.orders == []


async def test_the_21st_request_is_refused_and_a_flood_ends_the_call(gate, broker):
    frames = await _ask(gate, *[_message() for _ in range(40)])
    assert frames[:20] == [b"frame"] * 20
    assert all("used its budget of 20 requests" in _error(frame) for frame in frames[20:])
    with pytest.raises(FrameError, match="more than 20 requests"):
        await _ask(gate, _message())
    assert len(broker.orders) == 20


async def test_requests_run_side_by_side_and_end_with_the_call(gate, broker):
    broker.delay_s = 30.0
    async with asyncio.timeout(5):
        assert await _ask(gate, *[_message(id=number) for number in range(1, 6)]) == []
    assert [order.reply_to for order in broker.orders] == [1, 2, 3, 4, 5]
    assert broker.cancelled == 5


async def test_a_broker_that_ends_is_a_connection_error_for_the_tool(gate, broker):
    broker.is_gone = True
    assert "broker ended during the request" in _error(*await _ask(gate, _message()))


async def test_a_tool_may_shorten_the_time_but_not_lengthen_it(gate, broker):
    await _ask(gate, _message(timeout_s=2))
    await _ask(gate, _message(timeout_s=10**9))
    assert broker.orders[0].timeout_s == 2
    assert broker.orders[1].timeout_s < 10


async def test_a_policy_without_hosts_reaches_nothing(broker):
    gate = Gate(EgressPolicy("t", ()), broker, left_s=lambda: 5.0, frame_bytes=1 << 20)
    assert "not on the tool's list (no host)" in _error(*await _ask(gate, _message()))
