"""The host's gate between one call and the network: shape, allow-list, budget, secrets, log.

Every frame that arrives here was written by hostile code. What passes is a `BrokerOrder`; what does
not is answered with a failure the tool sees as its library's own connection error.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import math
import re
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from services.toolenv.egress.errors import EgressRefused
from services.toolenv.egress.injection import inject, sent_secrets
from services.toolenv.egress.policy import EgressPolicy
from services.toolenv.egress.targets import Target, parse_target
from services.toolenv.sandbox.brokerlink import BrokerAnswer, BrokerGone
from services.toolenv.sandbox.brokerwire import BrokerOrder, failure_frame
from services.toolenv.sandbox.frames import FrameError, JsonValue, encode_frame
from services.toolenv.sandbox.workers import WorkerGone

log = structlog.get_logger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_KEYS = {"t", "id", "method", "url", "headers", "body", "timeout_s"}
_MAX_ID = 1 << 31
_MAX_HEADERS = 64
_MAX_HEADER_CHARS = 32 << 10
_MAX_REFUSALS = 20  # a tool that ignores so many budget errors is attacking, not calling
_MARGIN_S = 0.25  # left to the tool before its deadline, to make something of a timeout
_MAX_REQUEST_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-real-ip",
    }
)
_OURS_PREFIXES = ("proxy-", "x-forwarded-", ":")


class Broker(Protocol):
    """What the gate needs of a broker; `BrokerLink` is the real one."""

    async def fetch(self, order: BrokerOrder) -> BrokerAnswer:
        """Carry out one order, or raise `BrokerGone`."""
        ...


class Requester(Protocol):
    """What the gate needs of a worker; `workers.Worker` is the real one."""

    async def receive(self) -> dict[str, JsonValue]:
        """The next message."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send one encoded frame."""
        ...


class Gate:
    """One call's way to the network."""

    def __init__(
        self, policy: EgressPolicy, broker: Broker, *, left_s: Callable[[], float], frame_bytes: int
    ) -> None:
        """Open for one call.

        Args:
            policy: What it may do.
            broker: Who does it.
            left_s: Seconds until the call's deadline.
            frame_bytes: Largest frame the worker takes.
        """
        self._policy = policy
        self._broker = broker
        self._left_s = left_s
        self._frame_bytes = frame_bytes
        self._requests = self._served = 0
        injections = [injection for rule in policy.hosts for injection in rule.injections]
        self._redact = sorted(set(sent_secrets(injections)))

    async def serve(self, worker: Requester, message: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Answer the worker's `http` messages, at the same time, until it sends something else.

        Args:
            worker: Where answers go and further messages come from.
            message: The first message, already received.

        Returns:
            The first message of another kind; requests still under way are cancelled then.

        Raises:
            FrameError: A message has not the agreed shape, or the tool keeps asking beyond its
                budget; the worker must be killed.
            WorkerGone: The worker ended.
        """
        sending = asyncio.Lock()
        running: set[asyncio.Task[None]] = set()
        try:
            while message.get("t") == "http":
                self._admit(message)
                # Not a TaskGroup: it would wrap the errors that end the call.
                task = asyncio.create_task(self._reply(worker, message, sending))
                running.add(task)
                task.add_done_callback(running.discard)
                message = await worker.receive()
            return message
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _reply(
        self, worker: Requester, message: dict[str, JsonValue], sending: asyncio.Lock
    ) -> None:
        frame = await self._answer(message)
        async with sending:
            with contextlib.suppress(WorkerGone):  # whoever receives will notice
                await worker.send(frame)

    def _admit(self, message: dict[str, JsonValue]) -> None:
        self._requests += 1
        limit = self._policy.max_requests
        if self._requests > limit + _MAX_REFUSALS:
            raise FrameError(f"more than {limit} requests, and {_MAX_REFUSALS} refusals ignored")
        _check_shape(message)

    async def _answer(self, message: dict[str, JsonValue]) -> bytes:
        started = time.monotonic()
        try:
            order, target = self._order(message)
        except EgressRefused as error:
            return self._refuse(message, "refused", str(error))
        try:
            answer = await self._broker.fetch(order)
        except BrokerGone as error:
            return self._refuse(message, "connection", str(error))
        note = answer.note
        log.info(
            "egress_request",
            tool=self._policy.tool,
            method=order.method,
            host=target.authority,
            status=note.status,
            failure=note.kind or None,
            sent_bytes=len(order.body) * 3 // 4,
            received_bytes=note.size_bytes,
            latency_ms=round((time.monotonic() - started) * 1e3, 1),
        )
        return answer.frame

    def _refuse(self, message: dict[str, JsonValue], kind: str, text: str) -> bytes:
        log.warning("egress_refused", tool=self._policy.tool, failure=kind, reason=text)
        frame = failure_frame(message["id"], kind, text)
        return encode_frame(frame, limit_bytes=self._frame_bytes)

    def _order(self, message: dict[str, JsonValue]) -> tuple[BrokerOrder, Target]:
        policy = self._policy
        self._served += 1
        if self._served > policy.max_requests:
            raise EgressRefused(
                target=policy.tool,
                rule=f"has used its budget of {policy.max_requests} requests per call",
                fix="fetch more with each request",
            )
        method, url = str(message["method"]), str(message["url"])
        if method not in METHODS:
            raise EgressRefused(
                target=method, rule="is no allowed method", fix=f"use {', '.join(sorted(METHODS))}"
            )
        target = parse_target(url, schemes=policy.schemes or {"https"})
        rule = policy.rule_for(target)
        body = _body(message["body"], policy.max_request_bytes)
        outgoing = inject(url, _headers(message["headers"]), rule.injections)
        order = BrokerOrder(
            reply_to=int(str(message["id"])),
            method=method,
            url=outgoing.url,
            headers=outgoing.headers,
            body=body,
            redact=self._redact,
            timeout_s=self._timeout_s(message["timeout_s"], target),
            max_response_bytes=policy.max_response_bytes,
            frame_bytes=self._frame_bytes,
        )
        return order, target

    def _timeout_s(self, asked: JsonValue, target: Target) -> float:
        left = self._left_s()
        limit = min(_MAX_REQUEST_S, left - min(_MARGIN_S, left / 4))
        if isinstance(asked, int | float) and not isinstance(asked, bool):
            limit = min(limit, float(asked))
        if limit <= 0:
            raise EgressRefused(
                target=target.host, rule="has no time left in this call", fix="allow more seconds"
            )
        return limit


def _check_shape(message: dict[str, JsonValue]) -> None:
    if set(message) != _KEYS:
        raise FrameError("an http frame with other keys than agreed")
    if not all(isinstance(message[key], str) for key in ("method", "url", "body")):
        raise FrameError("an http frame whose texts are not texts")
    _check_base64(str(message["body"]))
    number = message["id"]
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < _MAX_ID:
        raise FrameError("an http frame whose id is no positive number")
    timeout_s = message["timeout_s"]
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if timeout_s is not None and not (is_number and math.isfinite(float(str(timeout_s)))):
        raise FrameError("an http frame whose timeout is no number")
    headers = message["headers"]
    if not isinstance(headers, list) or not all(map(_is_pair, headers)):
        raise FrameError("an http frame whose headers are no pairs of texts")


def _is_pair(item: JsonValue) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(x, str) for x in item)


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FrameError("an http frame whose body is not base64") from error


def _body(encoded: JsonValue, limit_bytes: int) -> str:
    text = str(encoded)
    size = len(text) // 4 * 3 - text[-2:].count("=")
    if size > limit_bytes:
        raise EgressRefused(
            target="request body",
            rule=f"has {size} bytes, more than {limit_bytes}",
            fix="send less at once",
        )
    return text


def _headers(pairs: JsonValue) -> list[tuple[str, str]]:
    headers = [(str(pair[0]), str(pair[1])) for pair in _lists(pairs)]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > _MAX_HEADERS or size > _MAX_HEADER_CHARS:
        raise EgressRefused(
            target="request headers",
            rule=f"are {len(headers)} with {size} characters, more than {_MAX_HEADERS} "
            f"or {_MAX_HEADER_CHARS}",
            fix="send fewer",
        )
    for name, value in headers:
        _check_header(name, value)
    return headers


def _check_header(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise EgressRefused(target=name[:40], rule="is no header name", fix="correct it")
    if name.lower() in _OURS or name.lower().startswith(_OURS_PREFIXES):
        raise EgressRefused(
            target=name, rule="is a header that tools may not set", fix="leave it out"
        )
    if _BAD_VALUE.search(value) or not _is_latin(value):
        raise EgressRefused(
            target=name,
            rule="has a line break, control or non-Latin character in its value",
            fix="encode the value",
        )


def _is_latin(value: str) -> bool:
    return all(ord(char) < 256 for char in value)


def _lists(value: JsonValue) -> list[list[JsonValue]]:
    return [item for item in value if isinstance(item, list)] if isinstance(value, list) else []
