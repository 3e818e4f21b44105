"""Results and samples for the evaluator's tests."""

from services.contracts.evaluator import ExpectedAnswer, Sample, SampleResult


def result(query_id: int = 1, outcome: str = "passed", **changes: object) -> SampleResult:
    values: dict[str, object] = {
        "sample_id": f"{query_id}_CoT@1_abc",
        "campaign": "c",
        "method": "CoT@1",
        "query_id": query_id,
        "outcome": outcome,
        "run": "answered",
    }
    return SampleResult.model_validate(values | changes)


def sample(**changes: object) -> Sample:
    values: dict[str, object] = {
        "sample_id": "1_CoT@1_abc",
        "campaign": "c",
        "query_id": 1,
        "instruction": "say hello",
        "method": "CoT@1",
        "apis": None,
        "expected": ExpectedAnswer(contains=("hello",)),
    }
    return Sample.model_validate(values | changes)
