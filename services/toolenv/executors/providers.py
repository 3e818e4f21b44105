"""What stands between our calls and one provider: how many, how fast, and whether at all.

A provider is a host. Rates come from `aiolimiter`. The circuit breaker is our own: purgatory's
reads the wall clock, which jumps, lets every waiting call through at once when half open, and
cannot say when it closes, which is what a model needs to know.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from aiolimiter import AsyncLimiter

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, ResourceExhausted
from services.contracts.toolenv import CallStatus
from services.toolenv.admission import Admission

log = structlog.get_logger()

Clock = Callable[[], float]
_MAX_PAUSES = 1024  # keys per host whose pause is remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """Bounds for one host."""

    concurrency: int = 8
    """Requests at the same time, >= 1."""
    max_waiting: int = 256
    """Calls that may wait for one of those; one more is refused at once."""
    rate_per_s: float = 10.0
    """Requests per second in the long run, > 0."""
    burst: int = 20
    """Requests that may go out at once after a pause, >= 1."""
    breaker_failures: int = 5
    """Failures in a row of the host's infrastructure after which calls stop, >= 1."""
    breaker_open_s: float = 30.0
    """Seconds until one call is let through again to try."""


class Refused(Exception):
    """Nothing was sent, for a reason that lies with the host or our limits for it.

    Attributes:
        status: What the call's observation says.
        retry_after_s: When it may go better, seconds; `None` where that is unknown.
    """

    def __init__(self, status: CallStatus, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.retry_after_s = status, retry_after_s


class Breaker:
    """Stops calls to a host whose infrastructure fails; lets one through now and then to try.

    Closed: all calls go. Open: none does, until `open_s` have passed. Half open: one goes; its
    outcome closes the breaker or opens it again. Outcomes of calls that began in an earlier state
    do not count.
    """

    def __init__(self, host: str, *, failures: int, open_s: float, clock: Clock) -> None:
        self._host, self._limit, self._open_s, self._clock = host, failures, open_s, clock
        self._failures = 0
        self._open_until: float | None = None
        self._is_trying = False
        self._epoch = 0

    def admit(self) -> int:
        """A ticket for one call, to be handed back by `settle`.

        Raises:
            Refused: The breaker is open, or half open with its one call under way.
        """
        self.check()
        if self._open_until is not None:
            self._is_trying = True
            self._epoch += 1
        return self._epoch

    def check(self) -> None:
        """Raise `Refused` if no call can go now."""
        if self._open_until is None:
            return
        left_s = self._open_until - self._clock()
        if left_s > 0:
            raise Refused(
                CallStatus.API_NOT_WORKING,
                f"the circuit breaker for {self._host} is open after {self._failures} failures in "
                f"a row; in {left_s:.1f} s it lets one call through to try",
                left_s,
            )
        if self._is_trying:
            raise Refused(
                CallStatus.API_NOT_WORKING,
                f"the circuit breaker for {self._host} is half open: one call is trying whether "
                "the host works again",
                1.0,
            )

    def settle(self, ticket: int, *, has_failed: bool | None) -> None:
        """Count the outcome of one call; `None` when it says nothing about the host."""
        if ticket != self._epoch:
            return
        was_trying, self._is_trying = self._is_trying, False
        if has_failed is None:
            return
        if not has_failed:
            self._failures, self._open_until = 0, None
            return
        self._failures += 1
        if was_trying or self._failures >= self._limit:
            self._open_until = self._clock() + self._open_s
            self._epoch += 1
            log.warning("breaker_opened", host=self._host, failures=self._failures)


class Pass:
    """The right to send one request; `has_failed` is set by whoever sends it."""

    has_failed: bool | None = None
    """Whether the host's infrastructure failed; `None` says nothing about it."""


class Provider:
    """The gate of one host. Belongs to one event loop."""

    def __init__(self, host: str, limits: ProviderLimits, *, clock: Clock = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._slots = Admission(
            max_running=limits.concurrency, max_waiting=limits.max_waiting, max_wait_s=3600.0
        )
        self._rate = AsyncLimiter(limits.burst, limits.burst / limits.rate_per_s)
        self._breaker = Breaker(
            host,
            failures=limits.breaker_failures,
            open_s=limits.breaker_open_s,
            clock=clock,
        )
        self._pauses: OrderedDict[str, float] = OrderedDict()
        self.users = 0
        """Calls inside or waiting."""

    @asynccontextmanager
    async def enter(self, *, key: str, within_s: float) -> AsyncIterator[Pass]:
        """Wait for the right to send one request, and hold it for the block.

        Args:
            key: Whose credentials are used; a pause that the host asked for is theirs alone.
            within_s: Longest wait, seconds.

        Raises:
            Refused: The breaker is open, a pause was asked for, or the wait took too long.
        """
        self.users += 1
        try:
            self._check(key)
            with deadline_in(within_s):
                async with self._slot(), self._settled(key, within_s) as entry:
                    yield entry
        finally:
            self.users -= 1

    def pause(self, key: str, seconds: float) -> None:
        """Send nothing more with these credentials for a while, as the host asked."""
        self._pauses[key] = self._clock() + seconds
        self._pauses.move_to_end(key)
        while len(self._pauses) > _MAX_PAUSES:
            self._pauses.popitem(last=False)

    def _check(self, key: str) -> None:
        self._breaker.check()
        left_s = self._pauses.get(key, 0.0) - self._clock()
        if left_s > 0:
            raise Refused(
                CallStatus.RATE_LIMITED,
                f"{self._host} asked for a pause; {left_s:.1f} s of it are left",
                left_s,
            )
        self._pauses.pop(key, None)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._slots.enter())
            except (ResourceExhausted, DeadlineExceeded) as exc:
                raise Refused(
                    CallStatus.RATE_LIMITED, f"our limit of calls to {self._host}: {exc.detail}"
                ) from exc
            yield

    @asynccontextmanager
    async def _settled(self, key: str, within_s: float) -> AsyncIterator[Pass]:
        try:
            async with asyncio.timeout(within_s):
                await self._rate.acquire()
        except TimeoutError as exc:
            raise Refused(
                CallStatus.RATE_LIMITED,
                f"our rate limit for {self._host} left no room within {within_s:.1f} s",
            ) from exc
        self._check(key)  # what happened while this call waited counts
        ticket = self._breaker.admit()
        entry = Pass()
        try:
            yield entry
        finally:
            self._breaker.settle(ticket, has_failed=entry.has_failed)


class Providers:
    """The gates of all hosts; those not in use and longest unused are forgotten first."""

    def __init__(
        self,
        limits: ProviderLimits | None = None,
        *,
        by_host: Mapping[str, ProviderLimits] | None = None,
        max_hosts: int = 4096,
        clock: Clock = time.monotonic,
    ) -> None:
        """Set the bounds.

        Args:
            limits: For every host; the defaults when `None`.
            by_host: For single hosts instead (`host`, or `host:port` where the URL has a port).
            max_hosts: Hosts that are remembered.
            clock: Monotonic seconds.
        """
        self._limits = limits or ProviderLimits()
        self._by_host = dict(by_host or {})
        self._max_hosts = max_hosts
        self._clock = clock
        self._known: OrderedDict[str, Provider] = OrderedDict()

    def of(self, host: str) -> Provider:
        """The gate of a host."""
        provider = self._known.get(host)
        if provider is None:
            limits = self._by_host.get(host, self._limits)
            provider = self._known[host] = Provider(host, limits, clock=self._clock)
            self._forget()
        self._known.move_to_end(host)
        return provider

    def _forget(self) -> None:
        excess = len(self._known) - self._max_hosts
        if excess > 0:
            idle = [host for host, provider in self._known.items() if provider.users == 0]
            for host in idle[: min(excess, len(idle) - 1)]:
                del self._known[host]
