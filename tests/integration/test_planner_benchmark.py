"""The planner's benchmark at its smallest: what it computes, and what it refuses."""

from pathlib import Path

import pytest

from services.contracts.planner import Limits
from tests.benchmarks import planner as benchmark
from tests.fakes.scripted_world import TEMPERS, ScriptedModel

pytestmark = pytest.mark.anyio

TINY = benchmark.Scale(
    queries=12, latency_s=0.005, open_runs=20, open_latency_s=0.02, max_llm_calls=30
)


@pytest.fixture(autouse=True)
def bundled_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOOLWRIGHT_SHARED", raising=False)


async def test_it_measures_every_figure() -> None:
    figures = await benchmark.measure(TINY)
    assert set(figures) == {
        "planner_cpu_ms",
        "solve_cpu_ms",
        "wall_to_ideal_ratio",
        "speculative_to_exact_p50_ratio",
        "speculative_extra_calls_ratio",
        "mb_per_open_run",
    }
    assert figures["wall_to_ideal_ratio"] >= 1
    assert 0 < figures["speculative_extra_calls_ratio"] < 1


async def test_a_lost_event_fails_the_run(tmp_path: Path) -> None:
    queries = benchmark.some_queries(1)
    planner = benchmark.planner_over(ScriptedModel(1), queries, runs=1, folder=tmp_path)
    solved = await benchmark.solve(planner, benchmark.request_for(queries[0], "exact", Limits()))
    with pytest.raises(RuntimeError, match="lost"):
        benchmark.Solved(solved.events[1:], 0.0).require_whole()


def test_the_scripted_tempers_sum_up() -> None:
    assert sum(share for _, share in TEMPERS) == 100
