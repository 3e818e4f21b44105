"""The portal keeps one loop and one service for the life of a worker process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.contracts.context import current_request_id, deadline_in, remaining_s, request_scope
from services.contracts.errors import Unavailable
from services.contracts.ids import RequestId
from services.kit.worker import ServicePortal


class Counter:
    """A service; keeps how often it was opened and closed, and its loop."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.failures = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Counter"]:
        if self.failures:
            self.failures -= 1
            raise Unavailable("not yet")
        self.opened += 1
        self.loop = asyncio.get_running_loop()
        yield self
        self.closed += 1

    async def is_same_loop(self) -> bool:
        await asyncio.sleep(0)
        return asyncio.get_running_loop() is self.loop


def test_every_call_meets_the_same_service_in_the_same_loop() -> None:
    counter = Counter()
    portal = ServicePortal(counter.open)
    assert [portal.call(Counter.is_same_loop) for _ in range(3)] == [True] * 3
    assert (counter.opened, counter.closed) == (1, 0)
    portal.close()
    assert (counter.opened, counter.closed) == (1, 1)


def test_nothing_is_opened_before_the_first_call() -> None:
    counter = Counter()
    ServicePortal(counter.open).close()
    assert counter.opened == 0


def test_a_service_that_did_not_open_is_tried_again() -> None:
    counter = Counter()
    counter.failures = 1
    portal = ServicePortal(counter.open)
    with pytest.raises(Unavailable, match="not yet"):
        portal.call(Counter.is_same_loop)
    assert portal.call(Counter.is_same_loop)
    portal.close()


def test_each_call_runs_in_its_callers_context() -> None:
    async def seen(_: Counter) -> str | None:
        return current_request_id()

    async def left(_: Counter) -> float:
        return remaining_s(at_most_s=100.0)

    portal = ServicePortal(Counter().open)
    with request_scope(RequestId("first")):
        assert portal.call(seen) == "first"
    with request_scope(RequestId("second")), deadline_in(5.0):
        assert portal.call(seen) == "second"
        assert portal.call(left) <= 5.0
    assert portal.call(seen) is None
    portal.close()


def test_an_error_of_a_call_reaches_the_caller_and_the_portal_lives() -> None:
    async def fail(_: Counter) -> None:
        raise KeyError("x")

    portal = ServicePortal(Counter().open)
    with pytest.raises(KeyError):
        portal.call(fail)
    assert portal.call(Counter.is_same_loop)
    portal.close()


def test_a_closed_portal_opens_anew() -> None:
    counter = Counter()
    portal = ServicePortal(counter.open)
    portal.call(Counter.is_same_loop)
    portal.close()
    portal.close()
    assert portal.call(Counter.is_same_loop)
    portal.close()
    assert (counter.opened, counter.closed) == (2, 2)
