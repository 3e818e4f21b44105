"""Contract of the evaluator: plan an evaluation, run one sample, report."""

from typing import Literal, Protocol

from pydantic import Field, JsonValue

from services.contracts.apis import ApiRef
from services.contracts.base import ForeignModel, WireModel
from services.contracts.ids import SampleId
from services.contracts.planner import Limits


class NumberExpectation(ForeignModel):
    """A number that must occur in the answer's text."""

    value: float
    tolerance: float = Field(default=0.0, ge=0)
    """Largest absolute difference that still counts."""


class ExpectedAnswer(ForeignModel):
    """What the reference judge checks (decision 13)."""

    contains: tuple[str, ...] = ()
    """Texts that must occur, compared without case and with white space collapsed."""
    numbers: tuple[NumberExpectation, ...] = ()


class Sample(WireModel):
    """One instruction to be solved with one method and judged."""

    sample_id: SampleId
    """Stable over restarts: the same content gives the same id."""
    campaign: str = Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Folder of the results."""
    query_id: int
    instruction: str
    method: str
    apis: tuple[ApiRef, ...] | None
    """Closed domain; `None` lets the retriever choose."""
    top_k: int = Field(default=5, ge=1, le=100)
    expected: ExpectedAnswer
    limits: Limits = Limits()
    seed: int = 0


class SampleResult(ForeignModel):
    """What came of one sample; exactly one file per sample id."""

    sample_id: SampleId
    campaign: str
    method: str
    query_id: int
    outcome: Literal["passed", "failed", "infrastructure_error"]
    """An infrastructure error is never counted as the model's failure."""
    run: str
    """Kind of the run's terminal event."""
    answer: str | None = None
    reason: str = ""
    """Why it did not pass, in words."""
    backtracked: bool = False
    """Whether the search expanded some node more than once."""
    llm_calls: int = Field(default=0, ge=0)
    tool_calls: int = Field(default=0, ge=0)
    total_tokens: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    record: dict[str, JsonValue] | None = None


class MeanCost(ForeignModel):
    """Mean of what a sample cost."""

    mean: float
    interval_low: float
    interval_high: float
    """95 % bootstrap interval over samples, seeded."""


class MethodReport(ForeignModel):
    """Pass rate and costs of one method."""

    method: str
    n: int = Field(ge=0)
    """Judged samples; infrastructure errors are not among them."""
    passed: int = Field(ge=0)
    infrastructure_errors: int = Field(ge=0)
    pass_rate: float | None
    """Fraction in [0, 1]; `None` when n is 0."""
    interval_low: float | None
    interval_high: float | None
    """95 % Wilson interval."""
    mean_llm_calls: float
    mean_seconds: float
    backtracked: int = Field(ge=0)
    llm_calls: MeanCost | None = None
    """The costs are per judged sample; `None` when n is 0."""
    tool_calls: MeanCost | None = None
    tokens: MeanCost | None = None
    seconds: MeanCost | None = None


class PairedDifference(ForeignModel):
    """Pass rate of `method` minus that of `baseline` on the same instructions."""

    method: str
    baseline: str
    n: int = Field(ge=0)
    difference: float
    interval_low: float
    interval_high: float
    """95 % bootstrap interval over instructions, seeded."""


class Report(ForeignModel):
    """Result of a campaign."""

    campaign: str
    methods: tuple[MethodReport, ...]
    differences: tuple[PairedDifference, ...] = ()
    left_out: dict[str, str] = {}
    """Methods that were asked for and not run, with the reason."""


class Evaluator(Protocol):
    """Evaluates by campaign; every call may be repeated."""

    async def run_sample(self, sample: Sample) -> SampleResult:
        """Solve and judge one sample, and write its one result file.

        Idempotent: a sample whose result exists is not run again; an infrastructure error is.

        Raises:
            Unavailable: The planner cannot be reached; nothing is written.
        """
        ...

    async def report(self, campaign: str) -> Report:
        """Summarise the results that exist.

        Raises:
            NotFound: No such campaign.
        """
        ...
