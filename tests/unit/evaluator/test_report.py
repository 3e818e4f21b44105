"""Reports count what was judged, and only that."""

import pytest

from services.contracts.evaluator import SampleResult
from services.evaluator.report import summarise
from tests.fakes.evaluation import result

DFSDT = "DFS_woFilter_w2"


def outcomes(method: str, *found: str) -> list[SampleResult]:
    return [
        result(number, outcome, method=method, llm_calls=number, seconds=2.0, backtracked=True)
        for number, outcome in enumerate(found)
    ]


def test_infrastructure_errors_are_not_the_models_failures() -> None:
    (row,) = summarise(
        "c", outcomes("CoT@1", "passed", "infrastructure_error", "failed", "passed")
    ).methods
    assert (row.n, row.passed, row.infrastructure_errors, row.pass_rate) == (3, 2, 1, 2 / 3)
    assert (row.mean_llm_calls, row.mean_seconds, row.backtracked) == (5 / 3, 2.0, 3)


def test_the_interval_is_wilsons() -> None:
    (row,) = summarise("c", outcomes("CoT@1", *["failed"] * 20)).methods
    assert (row.interval_low, row.interval_high) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_a_method_without_judged_samples_has_no_rate() -> None:
    report = summarise("c", outcomes("CoT@1", "infrastructure_error") + outcomes(DFSDT, "passed"))
    assert [(row.method, row.n, row.pass_rate) for row in report.methods] == [
        ("CoT@1", 0, None),
        (DFSDT, 1, 1.0),
    ]
    assert report.differences == ()


def test_methods_are_compared_on_the_instructions_both_were_judged_on() -> None:
    react = outcomes("CoT@1", "failed", "failed", "passed", "infrastructure_error", "failed")
    dfsdt = outcomes(DFSDT, "passed", "failed", "passed", "passed", "infrastructure_error")
    (pair,) = summarise("c", react + dfsdt).differences
    assert (pair.method, pair.baseline, pair.n) == (DFSDT, "CoT@1", 3)
    assert pair.difference == pytest.approx(1 / 3)
    assert pair.interval_low <= pair.difference <= pair.interval_high


def test_every_pair_of_methods_is_compared_once() -> None:
    results = [row for name in ("CoT@1", "CoT@2", DFSDT) for row in outcomes(name, "passed")]
    pairs = [(pair.baseline, pair.method) for pair in summarise("c", results).differences]
    assert pairs == [("CoT@1", "CoT@2"), ("CoT@1", DFSDT), ("CoT@2", DFSDT)]


def test_an_empty_campaign_has_an_empty_report() -> None:
    report = summarise("c", [])
    assert (report.campaign, report.methods, report.differences) == ("c", (), ())
