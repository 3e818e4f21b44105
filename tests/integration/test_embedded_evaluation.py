"""Campaigns of the embedded system: a real queue and worker, a planner that repeats."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.embedded import evaluation
from infra.embedded.host import HostOptions
from infra.embedded.processes import celery_worker, private_redis
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.evaluator import ExpectedAnswer, Report, SampleResult
from services.contracts.ids import RunId
from services.contracts.planner import SolveRequest
from services.evaluator.bootstrap import open_results
from services.evaluator.campaign import CheckableQuery
from services.kit.settings import SharedSettings
from tests.fakes.evaluation import result
from tests.fakes.planner_ports import ScriptedModel, give_up
from tests.fakes.queue_world import CountingPlanner, serve_planner_at

pytestmark = pytest.mark.anyio
WORDS = ("alpha", "beta", "gamma")
QUERIES = [
    CheckableQuery(
        query_id=number, query=word, answer=ExpectedAnswer(contains=(word.replace("beta", "no"),))
    )
    for number, word in enumerate(WORDS)
]


class System:
    """Stands for the services of one process; keeps its planner and how often it was opened."""

    def __init__(self, shared: SharedSettings) -> None:
        self.shared = shared
        self.planner = CountingPlanner()
        self.model = ScriptedModel(lambda _: give_up())
        self.opened = 0

    @asynccontextmanager
    async def open(self, _: SharedSettings, __: HostOptions) -> AsyncIterator["System"]:
        self.opened += 1
        yield self


@asynccontextmanager
async def open_queue(system: System) -> AsyncIterator[str]:
    home = system.shared.toolwright_home
    async with private_redis(home) as url:
        socket = Path(url.removeprefix("redis+socket://")).with_name("planner.sock")
        async with (
            serve_planner_at(system.planner, socket),
            celery_worker(home=home, redis_url=url, planner_socket=socket, concurrency=1),
        ):
            yield url


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    made = System(SharedSettings(toolwright_home=tmp_path))
    monkeypatch.setattr(evaluation, "open_system", made.open)
    monkeypatch.setattr(evaluation, "open_queue", open_queue)
    return made


async def run(system: System, done: list[SampleResult], **changes: object) -> Report:
    values: dict[str, object] = {
        "shared": system.shared,
        "campaign": "c",
        "methods": ["CoT@1"],
        "open_domain": True,
        "top_k": 5,
        "seed": 0,
        "on_done": done.append,
    }
    return await evaluation.run_campaign(QUERIES, **(values | changes))  # type: ignore[arg-type]


async def test_a_campaign_is_run_once_and_continued(system: System) -> None:
    first: list[SampleResult] = []
    report = await run(system, first)
    assert sorted(found.query_id for found in first) == [0, 1, 2]
    assert [(row.n, row.passed) for row in report.methods] == [(3, 2)]
    again: list[SampleResult] = []
    assert await run(system, again) == report
    assert (len(again), system.opened, len(system.planner.runs)) == (3, 1, 3)


async def test_a_campaign_that_runs_elsewhere_is_refused(system: System) -> None:
    with (
        open_results(system.shared).claim("c"),
        pytest.raises(FailedPrecondition, match="another process"),
    ):
        await run(system, [])
    assert system.opened == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"methods": ["Oracle"]}, "'Oracle'"),
        ({"campaign": "../x"}, "campaign '../x'"),
        ({"open_domain": False}, "use --open-domain"),
    ],
)
async def test_bad_input_is_refused_before_anything_starts(
    system: System, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidArgument, match=named):
        await run(system, [], **changes)
    assert system.opened == 0


async def test_too_many_samples_are_refused_with_the_limit(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALUATOR_MAX_QUEUED", "2")
    with pytest.raises(InvalidArgument, match="3 samples exceed EVALUATOR_MAX_QUEUED=2"):
        await run(system, [])


async def test_infrastructure_errors_are_run_again_and_final_results_are_not(
    tmp_path: Path,
) -> None:
    shared = SharedSettings(toolwright_home=tmp_path)
    results = open_results(shared)
    samples = evaluation.plan_samples(
        QUERIES,
        campaign="c",
        methods=["CoT@1"],
        open_domain=True,
        top_k=5,
        limits=evaluation._LIMITS,
        seed=0,
    )
    for sample, outcome in zip(samples, ["passed", "infrastructure_error"], strict=False):
        results.write(result(sample_id=sample.sample_id, outcome=outcome))
    known: list[SampleResult] = []
    pending = evaluation._pending(samples, results, known.append)
    assert pending == samples[1:]
    assert [found.outcome for found in known] == ["passed"]


def test_a_set_is_a_name_or_a_file_and_a_seed_chooses(tmp_path: Path) -> None:
    chosen = [
        [query.query_id for query in evaluation.load_set("bundled-test", limit=5, seed=seed)]
        for seed in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    with pytest.raises(InvalidArgument, match="no set 'bundled-train'"):
        evaluation.load_set("bundled-train", limit=None, seed=0)
    assert len(evaluation.load_set("bundled-test", limit=None, seed=0)) > 200


def test_the_default_campaign_is_a_file_name_and_names_the_model(tmp_path: Path) -> None:
    def name(model: str) -> str:
        shared = SharedSettings(
            toolwright_home=tmp_path, llm_base_url="http://127.0.0.1:1/v1", llm_model=model
        )
        return evaluation.campaign_name("/a b/my queries (v1).json", shared, "")

    assert name("a").startswith("my-queries-v1-")
    assert name("a") != name("b")


def test_the_runs_of_a_campaign_are_kept_beside_its_results_and_taken_for_none(
    tmp_path: Path,
) -> None:
    results = open_results(SharedSettings(toolwright_home=tmp_path))
    results.write(result(campaign="c"))
    runs = evaluation.host_options(results, "c").runs
    assert runs is not None
    run_id = RunId("r")
    runs.begin(run_id, SolveRequest(instruction="x"), options={}, prompts="p").close()
    assert (tmp_path / "results" / "c" / "runs" / "r.jsonl").is_file()
    assert results.sample_ids("c") == {found.sample_id for found in results.campaign("c")}
    assert len(results.campaign("c")) == 1
