"""The gate of one host: how many calls, how fast, and whether at all."""

import asyncio
import time

import pytest

from services.contracts.toolenv import CallStatus
from services.toolenv.executors.providers import (
    Breaker,
    Provider,
    ProviderLimits,
    Providers,
    Refused,
)

pytestmark = pytest.mark.anyio


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, *, failures: int = 3) -> Breaker:
    return Breaker("api.test", failures=failures, open_s=30.0, clock=clock)


def fail(gate: Breaker, times: int) -> None:
    for _ in range(times):
        gate.settle(gate.admit(), has_failed=True)


def test_the_breaker_opens_after_failures_in_a_row_and_says_when_it_closes() -> None:
    clock = Clock()
    gate = breaker(clock)
    fail(gate, 3)
    clock.now += 10
    with pytest.raises(Refused, match=r"open after 3 failures in a row; in 20\.0 s") as refused:
        gate.admit()
    assert refused.value.status is CallStatus.API_NOT_WORKING
    assert refused.value.retry_after_s == pytest.approx(20.0)


def test_a_success_in_between_starts_the_count_again() -> None:
    gate = breaker(Clock())
    fail(gate, 2)
    gate.settle(gate.admit(), has_failed=False)
    fail(gate, 2)
    gate.check()


def test_half_open_lets_exactly_one_call_through() -> None:
    clock = Clock()
    gate = breaker(clock)
    fail(gate, 3)
    clock.now += 31
    gate.admit()
    with pytest.raises(Refused, match="half open"):
        gate.admit()


def test_the_trial_call_closes_the_breaker_or_opens_it_again() -> None:
    clock = Clock()
    gate = breaker(clock)
    fail(gate, 3)
    clock.now += 31
    gate.settle(gate.admit(), has_failed=True)
    with pytest.raises(Refused, match="open after 4 failures"):
        gate.check()
    clock.now += 31
    gate.settle(gate.admit(), has_failed=False)
    fail(gate, 2)
    gate.check()


def test_a_trial_that_says_nothing_leaves_room_for_another() -> None:
    clock = Clock()
    gate = breaker(clock)
    fail(gate, 3)
    clock.now += 31
    gate.settle(gate.admit(), has_failed=None)
    gate.settle(gate.admit(), has_failed=False)
    gate.check()


def test_a_call_from_before_the_breaker_opened_does_not_count_afterwards() -> None:
    clock = Clock()
    gate = breaker(clock)
    late_success, late_failure = gate.admit(), gate.admit()
    fail(gate, 3)
    gate.settle(late_success, has_failed=False)
    with pytest.raises(Refused):
        gate.check()
    clock.now += 31
    gate.settle(late_failure, has_failed=True)
    gate.admit()


async def enter(provider: Provider, *, hold_s: float = 0.0, within_s: float = 5.0) -> None:
    async with provider.enter(key="k", within_s=within_s):
        await asyncio.sleep(hold_s)


async def test_calls_beyond_the_burst_go_out_at_the_rate() -> None:
    provider = Provider("api.test", ProviderLimits(concurrency=50, rate_per_s=20.0, burst=2))
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(enter(provider))
    assert time.perf_counter() - started >= 6 / 20.0 * 0.9


async def test_a_wait_for_the_rate_is_bounded() -> None:
    provider = Provider("api.test", ProviderLimits(rate_per_s=0.1, burst=1))
    await enter(provider)
    with pytest.raises(Refused, match="rate limit for api.test") as refused:
        await enter(provider, within_s=0.1)
    assert refused.value.status is CallStatus.RATE_LIMITED


async def test_a_wait_for_a_place_is_bounded_and_so_is_the_queue() -> None:
    provider = Provider("api.test", ProviderLimits(concurrency=1, max_waiting=1))
    async with asyncio.TaskGroup() as group:
        group.create_task(enter(provider, hold_s=0.5))
        await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(enter(provider, within_s=0.1))
        await asyncio.sleep(0.01)
        with pytest.raises(Refused, match="1 calls wait already"):
            await enter(provider)
        with pytest.raises(Refused, match="our limit of calls to api.test"):
            await waiting
    await enter(provider)
    assert provider.users == 0


async def test_a_call_that_waited_is_refused_if_the_breaker_opened_meanwhile() -> None:
    provider = Provider("api.test", ProviderLimits(concurrency=1, breaker_failures=1))

    async def failing() -> None:
        async with provider.enter(key="k", within_s=5) as entry:
            await asyncio.sleep(0.05)
            entry.has_failed = True

    async with asyncio.TaskGroup() as group:
        group.create_task(failing())
        await asyncio.sleep(0.01)
        with pytest.raises(Refused, match="circuit breaker"):
            await enter(provider)


async def test_a_pause_ends_by_itself() -> None:
    clock = Clock()
    provider = Provider("api.test", ProviderLimits(), clock=clock)
    provider.pause("k", 10.0)
    with pytest.raises(Refused, match=r"asked for a pause; 10\.0 s") as refused:
        await enter(provider)
    assert refused.value.retry_after_s == 10.0
    clock.now += 10
    await enter(provider)


async def test_hosts_have_their_own_gates_and_their_own_limits() -> None:
    slow = ProviderLimits(rate_per_s=0.01, burst=1)
    providers = Providers(by_host={"slow.test": slow})
    await enter(providers.of("slow.test"))
    with pytest.raises(Refused):
        await enter(providers.of("slow.test"), within_s=0.05)
    for _ in range(5):
        await enter(providers.of("fast.test"))


async def test_hosts_that_are_not_in_use_are_forgotten_first() -> None:
    providers = Providers(max_hosts=2)
    used, idle = providers.of("used.test"), providers.of("idle.test")
    async with used.enter(key="k", within_s=1):
        providers.of("third.test")
        assert providers.of("used.test") is used
        assert providers.of("idle.test") is not idle
