"""Summarises the results of a campaign."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from services.contracts.evaluator import (
    MeanCost,
    MethodReport,
    PairedDifference,
    Report,
    SampleResult,
)
from services.evaluator.metrics.intervals import mean_interval, wilson_interval

_BOOTSTRAP_SEED = 42


def summarise(campaign: str, results: Sequence[SampleResult]) -> Report:
    """Pass rate per method, and paired differences between methods on common instructions."""
    by_method: dict[str, list[SampleResult]] = defaultdict(list)
    for result in results:
        by_method[result.method].append(result)
    return Report(
        campaign=campaign,
        methods=tuple(_method(name, group) for name, group in sorted(by_method.items())),
        differences=tuple(
            difference
            for baseline, method in combinations(sorted(by_method), 2)
            if (difference := _difference(by_method[method], by_method[baseline]))
        ),
    )


def _method(name: str, results: Sequence[SampleResult]) -> MethodReport:
    judged = [result for result in results if result.outcome != "infrastructure_error"]
    n, passed = len(judged), sum(result.outcome == "passed" for result in judged)
    interval = wilson_interval(passed, n) if n else None
    return MethodReport(
        method=name,
        n=n,
        passed=passed,
        infrastructure_errors=len(results) - n,
        pass_rate=passed / n if n else None,
        interval_low=interval.low if interval else None,
        interval_high=interval.high if interval else None,
        mean_llm_calls=fmean([result.llm_calls for result in judged]) if n else 0.0,
        mean_seconds=fmean([result.seconds for result in judged]) if n else 0.0,
        backtracked=sum(result.backtracked for result in judged),
        llm_calls=_cost([result.llm_calls for result in judged]),
        tool_calls=_cost([result.tool_calls for result in judged]),
        tokens=_cost([result.total_tokens for result in judged]),
        seconds=_cost([result.seconds for result in judged]),
    )


def _cost(values: Sequence[float]) -> MeanCost | None:
    if not values:
        return None
    interval = mean_interval(values, seed=_BOOTSTRAP_SEED)
    return MeanCost(mean=fmean(values), interval_low=interval.low, interval_high=interval.high)


def _difference(
    results: Sequence[SampleResult], baseline: Sequence[SampleResult]
) -> PairedDifference | None:
    """Difference on the instructions that both methods have a judged result for."""
    theirs = {r.query_id: r for r in baseline if r.outcome != "infrastructure_error"}
    pairs = [
        int(mine.outcome == "passed") - int(theirs[mine.query_id].outcome == "passed")
        for mine in results
        if mine.outcome != "infrastructure_error" and mine.query_id in theirs
    ]
    if not pairs:
        return None
    interval = mean_interval(pairs, seed=_BOOTSTRAP_SEED)
    return PairedDifference(
        method=results[0].method,
        baseline=baseline[0].method,
        n=len(pairs),
        difference=fmean(pairs),
        interval_low=interval.low,
        interval_high=interval.high,
    )
