"""The `Evaluator` port: the same cases in process and over HTTP, with a stateful planner."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.contracts.clients.evaluator import HttpEvaluator
from services.contracts.errors import InvalidArgument, NotFound, ServiceError, Unavailable
from services.contracts.evaluator import Evaluator, ExpectedAnswer, Report, SampleResult
from services.contracts.planner import PlanEvent, SolveRequest
from services.evaluator.results import ResultStore
from services.evaluator.routes import router
from services.evaluator.service import EvaluatorService
from services.kit.app import create_app
from tests.fakes import plan_runs
from tests.fakes.evaluation import sample
from tests.fakes.loopback import serve

pytestmark = pytest.mark.anyio

Opener = Callable[[EvaluatorService], AbstractAsyncContextManager[Evaluator]]


class EchoPlanner:
    """Answers with the instruction's words after failing as often as it is told to."""

    def __init__(self, *failures: ServiceError) -> None:
        self.solved: list[str] = []
        self._failures = list(failures)

    async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        if self._failures:
            raise self._failures.pop(0)
        for event in plan_runs.short(request.instruction):
            yield event
        self.solved.append(request.instruction)


@asynccontextmanager
async def in_process(service: EvaluatorService) -> AsyncIterator[Evaluator]:
    yield service


@asynccontextmanager
async def over_http(service: EvaluatorService) -> AsyncIterator[Evaluator]:
    app = create_app(title="evaluator", routers=[router], open_service=lambda: in_process(service))
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        yield HttpEvaluator(http)


@pytest.fixture(params=[in_process, over_http], ids=["in_process", "http"])
def open_evaluator(request: pytest.FixtureRequest) -> Opener:
    return request.param


def result_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.json"))


def service(folder: Path, planner: EchoPlanner) -> EvaluatorService:
    return EvaluatorService(planner=planner, results=ResultStore(folder))


async def test_a_sample_is_solved_judged_and_kept(open_evaluator: Opener, tmp_path: Path) -> None:
    planner = EchoPlanner()
    async with open_evaluator(service(tmp_path, planner)) as evaluator:
        found = await evaluator.run_sample(sample())
    assert (found.outcome, found.run, found.answer) == ("passed", "answered", "say hello")
    assert ResultStore(tmp_path).read("c", found.sample_id) == found


async def test_repeating_a_sample_returns_the_first_result(
    open_evaluator: Opener, tmp_path: Path
) -> None:
    planner = EchoPlanner()
    async with open_evaluator(service(tmp_path, planner)) as evaluator:
        first = await evaluator.run_sample(sample())
        again = await evaluator.run_sample(sample())
    assert again == first
    assert planner.solved == ["say hello"]


async def test_a_planner_that_is_away_leaves_nothing_and_may_be_asked_again(
    open_evaluator: Opener, tmp_path: Path
) -> None:
    planner = EchoPlanner(Unavailable("restarting"))
    async with open_evaluator(service(tmp_path, planner)) as evaluator:
        with pytest.raises(Unavailable, match="restarting"):
            await evaluator.run_sample(sample())
        assert ResultStore(tmp_path).sample_ids("c") == set()
        assert (await evaluator.run_sample(sample())).outcome == "passed"


async def test_a_report_counts_what_was_judged(open_evaluator: Opener, tmp_path: Path) -> None:
    wrong = sample(
        sample_id="2_CoT@1_abc", query_id=2, expected=ExpectedAnswer(contains=("goodbye",))
    )
    async with open_evaluator(service(tmp_path, EchoPlanner())) as evaluator:
        await evaluator.run_sample(sample())
        await evaluator.run_sample(wrong)
        (row,) = (await evaluator.report("c")).methods
    assert (row.method, row.n, row.passed, row.pass_rate) == ("CoT@1", 2, 1, 0.5)


@pytest.mark.parametrize("campaign", ["unknown", "a.b-c_d"])
async def test_an_unknown_campaign_is_not_found(
    open_evaluator: Opener, tmp_path: Path, campaign: str
) -> None:
    async with open_evaluator(service(tmp_path, EchoPlanner())) as evaluator:
        with pytest.raises(NotFound, match=campaign):
            await evaluator.report(campaign)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"expected": ExpectedAnswer()}, "expected answer"),
        ({"instruction": ""}, "instruction"),
        ({"sample_id": "../../escaped"}, r"'\.\./\.\./escaped'"),
        ({"campaign": ".."}, r"'\.\.'"),
    ],
)
async def test_a_bad_sample_is_refused_by_name(
    open_evaluator: Opener, tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    planner = EchoPlanner()
    async with open_evaluator(service(tmp_path / "in", planner)) as evaluator:
        with pytest.raises(InvalidArgument, match=named):
            await evaluator.run_sample(sample(**changes))
    assert planner.solved == []
    assert result_files(tmp_path) == []


async def test_results_and_reports_survive_the_wire(tmp_path: Path) -> None:
    found: list[tuple[SampleResult, Report]] = []
    for number, opener in enumerate([in_process, over_http]):
        async with opener(service(tmp_path / str(number), EchoPlanner())) as evaluator:
            found.append((await evaluator.run_sample(sample()), await evaluator.report("c")))
    assert found[0] == found[1]


async def test_a_hostile_path_or_body_is_a_problem_over_http(tmp_path: Path) -> None:
    made = service(tmp_path, EchoPlanner())
    app = create_app(title="evaluator", routers=[router], open_service=lambda: in_process(made))
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        escape = await http.get("/v1/campaigns/%2e%2e/report")
        unknown_field = await http.post("/v1/samples", json={"sample_id": "x", "evil": 1})
    assert (escape.status_code, unknown_field.status_code) == (400, 400)
    assert escape.headers["content-type"] == "application/problem+json"
    assert "evil" in unknown_field.json()["detail"]


async def test_a_run_without_an_end_is_a_defect(open_evaluator: Opener, tmp_path: Path) -> None:
    class Cut(EchoPlanner):
        async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
            for event in plan_runs.short("x")[:-1]:
                yield event

    async with open_evaluator(service(tmp_path, Cut())) as evaluator:
        with pytest.raises(ServiceError, match="without a terminal event"):
            await evaluator.run_sample(sample())
