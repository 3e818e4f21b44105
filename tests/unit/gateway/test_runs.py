"""The bounded pool of runs."""

import pytest

from gateway.backends import Backends
from gateway.runs import RunPool
from services.contracts.errors import ResourceExhausted
from services.contracts.planner import Limits, SolveRequest
from tests.fakes.planner import FakePlanner
from tests.fakes.planner_ports import HELLO, FakeRetriever, FakeToolEnv

pytestmark = pytest.mark.anyio


def pool_of(planner: FakePlanner, *, max_runs: int = 1) -> RunPool:
    return RunPool(
        Backends(
            planner=planner,
            retriever=FakeRetriever([HELLO]),
            toolenv=FakeToolEnv(),
            limits=Limits(),
            max_concurrent_runs=max_runs,
        )
    )


async def test_one_run_more_than_the_limit_is_refused_with_limit_and_fix():
    pool = pool_of(FakePlanner())
    with pool.place(), pytest.raises(ResourceExhausted, match=r"limit is 1.*MAX_CONCURRENT_RUNS"):
        pool.place().__enter__()


async def test_a_place_is_free_again_after_a_failure():
    pool = pool_of(FakePlanner())
    with pytest.raises(ValueError, match="inside"), pool.place():
        raise ValueError("inside")
    assert pool.open == 0


async def test_closing_a_runs_events_closes_the_planners():
    planner = FakePlanner()
    events = pool_of(planner).run(SolveRequest(instruction="x"))
    await anext(events)
    await events.aclose()
    assert planner.runs[0].closed.is_set()
    assert not planner.runs[0].finished
