"""Calls HTTP APIs: RapidAPI's and those of OpenAPI documents, plugin manifests and such.

What an API or the network does is data: every outcome is an observation. A request is sent again
only if that is safe: the API reads or is idempotent, or the request provably never left. A write
that may have arrived is never repeated.
"""

import asyncio
import hashlib
import random
import time
import zlib
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import httpx
import structlog
from pydantic import SecretStr

from services.contracts.apis import ApiRef, SideEffect
from services.contracts.context import remaining_s
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.egress.decoding import UnknownEncoding
from services.toolenv.egress.errors import EgressError, NameNotResolved, ResponseTooLarge
from services.toolenv.egress.injection import sent_secrets
from services.toolenv.egress.policy import Injection
from services.toolenv.egress.redaction import Redactor
from services.toolenv.egress.targets import is_in_clear
from services.toolenv.endpoints import HttpEndpoint
from services.toolenv.executors.base import Declined
from services.toolenv.executors.http_outcomes import LABELS, Outcomes
from services.toolenv.executors.http_redirects import (
    STATUSES,
    Unfollowed,
    is_same_place,
    redirected,
)
from services.toolenv.executors.http_reply import read_body, retry_after_s
from services.toolenv.executors.http_request import (
    BadArguments,
    BadEndpoint,
    OutgoingRequest,
    build_request,
)
from services.toolenv.executors.providers import Pass, Provider, Providers, Refused
from services.toolenv.invocation import Invocation
from services.toolenv.observation import Keep, failed

log = structlog.get_logger()

_KEPT_ELSEWHERE: Final = frozenset({"accept", "accept-language", "user-agent"})
"""Headers that follow a redirect to another host; arguments and credentials do not."""
_INFRASTRUCTURE: Final = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527})
"""HTTP statuses that tell of the host's machines rather than of this call."""
_REPEATABLE: Final = frozenset({SideEffect.READ, SideEffect.IDEMPOTENT})
_RETRY_STATUSES: Final = _INFRASTRUCTURE | {408, 425, 429}
_NEVER_LEFT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_FAIR_WAIT_S: Final = 5.0  # a host that was given less and did not answer has not failed
_FIRST_BACKOFF_S: Final = 0.2
_CLOCK_STEP_S: Final = 0.01  # a timer may fire that much early
_LONG_BYTES: Final = 256 << 10  # parsing more takes milliseconds, which others would wait for


class Credentials(Protocol):
    """Where secrets come from."""

    def lookup(self, name: str, *, user: str | None, api: ApiRef) -> SecretStr | None:
        """The secret for a call, `None` when there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one call."""

    call_timeout_s: float = 30.0
    """Longest time for a call with all its tries, seconds."""
    connect_timeout_s: float = 5.0
    """Longest wait for a connection, seconds."""
    max_body_bytes: int = 8 << 20
    """Longest body that is read as JSON, after decompression."""
    max_kept_bytes: int = 64 << 20
    """Longest body that is kept whole when it is not shown whole; what comes after is lost."""
    head_bytes: int = 65_536
    """What is shown of a body that exceeds even that."""
    max_redirects: int = 5
    max_tries: int = 3
    """Requests for one call, where repeating is safe."""
    retry_budget_s: float = 5.0
    """Sum of the pauses between them, seconds."""
    max_retry_after_s: float = 300.0
    """Longest pause of a host that is taken at its word, seconds."""


class _Result(NamedTuple):
    """One try."""

    observation: Observation
    may_repeat: bool
    """Whether another try is safe and could go better."""
    was_sent: bool = True
    """Whether the host's gate let it through."""


@dataclass(frozen=True, slots=True)
class _Sending:
    """One call on its way."""

    request: OutgoingRequest
    outcomes: Outcomes
    provider: Provider
    key: str
    """Stands for the credentials without revealing them."""
    until: float
    """End of the call, in the event loop's time."""
    limit_s: float
    started: float = field(default_factory=time.perf_counter)

    def left_s(self) -> float:
        return self.until - asyncio.get_running_loop().time()


class HttpCaller:
    """See `services.toolenv.executors.live.Caller`, for `HttpEndpoint`."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        credentials: Credentials,
        providers: Providers | None = None,
        limits: HttpLimits | None = None,
        keep: Keep | None = None,
        clear_hosts: Container[str] = (),
        jitter: random.Random | None = None,
    ) -> None:
        """Use a transport; the caller owns and closes it.

        Args:
            transport: Shared by all calls, with its connections. Not a client: that would carry
                cookies from one user's call to the next, and log whole URLs.
            credentials: Where secrets come from.
            providers: Bounds per host.
            limits: Bounds per call.
            keep: Where an answer goes that is too long to show.
            clear_hosts: `host:port` pairs that secrets may be sent to without encryption.
            jitter: Spreads the pauses between tries.
        """
        self._transport = transport
        self._credentials = credentials
        self._providers = providers or Providers()
        self._limits = limits or HttpLimits()
        self._keep = keep
        self._clear_hosts = clear_hosts
        self._jitter = jitter or random.Random()

    async def call(self, invocation: Invocation) -> Observation | Declined:
        """See `Caller.call`."""
        endpoint = invocation.entry.endpoint
        if not isinstance(endpoint, HttpEndpoint):
            return Declined(f"{invocation.entry.document.ref} is no HTTP API")
        limit_s = remaining_s(at_most_s=self._limits.call_timeout_s)
        until = asyncio.get_running_loop().time() + limit_s
        injections = self._injections(endpoint, invocation)
        if isinstance(injections, Declined):
            return injections
        document = invocation.entry.document
        try:
            request = build_request(endpoint, document, invocation.arguments or {}, injections)
        except BadArguments as exc:
            return failed(CallStatus.INVALID_ARGUMENTS, str(exc))
        except BadEndpoint as exc:
            text = f"API not working: {document.ref} cannot be called: {exc}; mend its document"
            return failed(CallStatus.API_NOT_WORKING, text)
        secrets = sent_secrets(injections)
        sending = _Sending(
            request=request,
            outcomes=Outcomes(
                document,
                request.host,
                Redactor(secrets),
                credentials=tuple(placement.credential for placement in endpoint.auth),
                is_repeatable=document.side_effect in _REPEATABLE,
                keep=self._keep,
                max_body_bytes=self._limits.max_body_bytes,
                head_bytes=self._limits.head_bytes,
            ),
            provider=self._providers.of(request.host),
            key=hashlib.sha256("\0".join(secrets).encode()).hexdigest(),
            until=until,
            limit_s=limit_s,
        )
        return await self._with_retries(sending)

    def _injections(
        self, endpoint: HttpEndpoint, invocation: Invocation
    ) -> list[Injection] | Declined:
        api = invocation.entry.document.ref
        if endpoint.auth and is_in_clear(endpoint.url, self._clear_hosts):
            return Declined(
                f"{api} would send a credential without encryption; use https, or list its "
                "host:port in TOOLENV_ALLOW_PRIVATE"
            )
        found: list[Injection] = []
        for placement in endpoint.auth:
            name = placement.credential
            # A name of the tool's own: another tool may use the same one.
            is_own = name.startswith(f"{api.tool}.")
            scope = f" --tool {api.category}/{api.tool}" if is_own else ""
            secret = self._credentials.lookup(name, user=invocation.user, api=api)
            if secret is None:
                if endpoint.is_auth_optional:
                    continue
                return Declined(
                    f"no credential {name!r} for {api}; set it with "
                    f"`toolwright credentials set {name}{scope}`"
                )
            value = secret.get_secret_value().strip()
            if not value or not value.isprintable() or not value.isascii():
                return Declined(
                    f"credential {name!r} is empty or holds a line break or a character outside "
                    f"ASCII; set it again with `toolwright credentials set {name}{scope}`"
                )
            found.append(
                Injection(placement.kind, placement.name, SecretStr(value), placement.prefix)
            )
        return found

    async def _with_retries(self, sending: _Sending) -> Observation:
        result = await self._try(sending)
        paused_s = 0.0
        for number in range(1, self._limits.max_tries):
            pause_s = self._pause_s(result.observation, number)
            budget_s = min(self._limits.retry_budget_s - paused_s, sending.left_s())
            if not result.may_repeat or pause_s >= budget_s:
                break
            paused_s += pause_s
            await asyncio.sleep(pause_s + _CLOCK_STEP_S)
            following = await self._try(sending)
            if not following.was_sent:  # the host's gate has closed: the answer that came stands
                break
            result = following
        return result.observation.model_copy(
            update={"latency_s": time.perf_counter() - sending.started}
        )

    def _pause_s(self, observation: Observation, number: int) -> float:
        backoff_s: float = _FIRST_BACKOFF_S * 2 ** (number - 1) * self._jitter.uniform(0.5, 1.5)
        return max(backoff_s, observation.retry_after_s or 0.0)

    async def _try(self, sending: _Sending) -> _Result:
        try:
            left_s = max(sending.left_s(), 0.001)
            async with sending.provider.enter(key=sending.key, within_s=left_s) as entry:
                return await self._exchange(sending, entry)
        except Refused as exc:
            label = LABELS[exc.status]
            observation = failed(exc.status, f"{label}: {exc}; nothing was sent")
            retry_s = exc.retry_after_s
            observation = observation.model_copy(update={"retry_after_s": retry_s})
            return _Result(observation, may_repeat=False, was_sent=False)

    async def _exchange(self, sending: _Sending, entry: Pass) -> _Result:
        """One request and its outcome, with what it says about the host."""
        # What a short deadline cuts off says nothing about the host.
        is_fair = sending.left_s() >= 0.9 * min(_FAIR_WAIT_S, self._limits.call_timeout_s)
        blame = True if is_fair else None
        try:
            async with asyncio.timeout_at(sending.until):
                result = await self._send(sending)
        except TimeoutError:
            entry.has_failed = blame
            return _Result(sending.outcomes.timed_out(sending.limit_s), False)
        except Unfollowed as exc:
            entry.has_failed = False
            return _Result(sending.outcomes.broken(CallStatus.REQUEST_FAILED, str(exc)), False)
        except ResponseTooLarge as exc:
            entry.has_failed = False
            return _Result(sending.outcomes.too_long("", total_bytes=exc.limit_bytes), False)
        except (EgressError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
            entry.has_failed = blame
            return self._unreached(sending, entry, exc)
        except (OSError, UnknownEncoding, zlib.error) as exc:
            entry.has_failed = blame
            return self._unreached(sending, entry, exc)
        entry.has_failed = result.observation.upstream_status in _INFRASTRUCTURE
        return result

    async def _send(self, sending: _Sending) -> _Result:
        response = await self._follow(sending)
        try:
            raw = await read_body(response, limit_bytes=self._limits.max_kept_bytes)
        finally:
            await response.aclose()
        pause_s = retry_after_s(response.headers, at_most_s=self._limits.max_retry_after_s)
        if pause_s and response.status_code in (429, 503):
            sending.provider.pause(sending.key, pause_s)
        observe = sending.outcomes.of_answer
        observation = (
            await asyncio.to_thread(observe, response, raw)
            if len(raw.content) > _LONG_BYTES
            else observe(response, raw)
        ).model_copy(update={"retry_after_s": pause_s})
        is_transient = response.status_code in _RETRY_STATUSES
        return _Result(observation, may_repeat=is_transient and sending.outcomes.is_repeatable)

    async def _follow(self, sending: _Sending) -> httpx.Response:
        """The unread response, after redirects of a GET or HEAD."""
        outgoing = sending.request
        request = self._request(
            outgoing.method, outgoing.url, list(outgoing.headers), outgoing.content, sending
        )
        for _ in range(self._limits.max_redirects + 1):
            response = await self._transport.handle_async_request(request)
            location = response.headers.get("location")
            if response.status_code not in STATUSES or not location:
                return response
            await response.aclose()
            url = redirected(request, location, sending.outcomes.redactor)
            kept = [
                (name, value)
                for name, value in request.headers.multi_items()
                if is_same_place(request.url, url) or name.lower() in _KEPT_ELSEWHERE
                if name.lower() != "host"
            ]
            request = self._request(request.method, url, kept, b"", sending)
        raise Unfollowed(f"more than {self._limits.max_redirects} redirects")

    def _request(
        self,
        method: str,
        url: str | httpx.URL,
        headers: list[tuple[str, str]],
        content: bytes,
        sending: _Sending,
    ) -> httpx.Request:
        left_s = max(sending.left_s(), 0.001)
        timeout = dict.fromkeys(("read", "write", "pool"), left_s)
        timeout["connect"] = min(left_s, self._limits.connect_timeout_s)
        others = [(name, value) for name, value in headers if name.lower() != "accept-encoding"]
        return httpx.Request(
            method,
            url,
            headers=[*others, ("Accept-Encoding", "identity")],
            content=content,
            extensions={"timeout": timeout},
        )

    def _unreached(self, sending: _Sending, entry: Pass, exc: Exception) -> _Result:
        """The outcome when no whole answer came."""
        outcomes = sending.outcomes
        if isinstance(exc, EgressError) and not isinstance(exc, NameNotResolved):
            entry.has_failed = None
            return _Result(outcomes.broken(CallStatus.API_NOT_WORKING, str(exc)), False)
        if isinstance(exc, httpx.LocalProtocolError | httpx.InvalidURL | httpx.StreamError):
            entry.has_failed = None
            # Its own text may quote the headers.
            text = f"the request cannot be sent ({type(exc).__name__}); mend the API's document"
            return _Result(outcomes.broken(CallStatus.API_NOT_WORKING, text), False)
        text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        if isinstance(exc, (*_NEVER_LEFT, NameNotResolved)):
            if not isinstance(exc, httpx.TimeoutException):
                entry.has_failed = True
            text = f"cannot be reached: {text}"
            return _Result(outcomes.broken(CallStatus.API_NOT_WORKING, text), True)
        if isinstance(exc, httpx.TimeoutException):
            return _Result(outcomes.timed_out(sending.limit_s), False)
        entry.has_failed = True
        if not outcomes.is_repeatable:
            text += "; whether the call took effect is not known, so it was not repeated"
        observation = outcomes.broken(CallStatus.REQUEST_FAILED, text)
        is_connection = isinstance(exc, httpx.TransportError | OSError)
        return _Result(observation, is_connection and outcomes.is_repeatable)
