"""The evaluation queue on a real Redis with real Celery workers, some of which are killed."""

from collections.abc import Callable, Iterator

import pytest

from tests.fakes.queue_world import (
    QueueWorld,
    Worker,
    children_of,
    is_alive,
    open_world,
    sample_of,
    wait_until,
)


@pytest.fixture(scope="module")
def module_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueWorld]:
    with open_world(tmp_path_factory.mktemp("home")) as world:
        yield world


@pytest.fixture
def world(module_world: QueueWorld) -> Iterator[QueueWorld]:
    """The shared world with its planner in place and one living worker."""
    module_world.planner.runs.clear()
    module_world.planner.is_held = False
    module_world.planner.on_start = lambda _: None
    with module_world.serve_planner():
        yield module_world


@pytest.fixture
def worker(module_world: QueueWorld) -> Worker:
    living = [each for each in module_world.workers if each.process.poll() is None]
    return living[0] if living else module_world.start_worker()


def finished(world: QueueWorld, word: str) -> list[bool]:
    return [run.finished for run in world.runs_of(word)]


def test_every_sample_ends_in_one_result_file(world: QueueWorld, worker: Worker) -> None:
    samples = [sample_of(word, "all") for word in ("alpha", "beta", "gamma", "delta")]
    world.send(*samples)
    outcomes = [world.result(sample).outcome for sample in samples]
    world.wait_until_drained()
    assert outcomes == ["passed"] * 4
    assert world.results.sample_ids("all") == {sample.sample_id for sample in samples}
    assert [finished(world, sample.instruction) for sample in samples] == [[True]] * 4


def test_a_sample_whose_process_is_killed_is_delivered_again_and_judged_once(
    world: QueueWorld, worker: Worker
) -> None:
    sample = sample_of("killed", "child")
    world.planner.is_held = True
    world.send(sample)
    wait_until(lambda: len(world.runs_of("killed")) == 1, "the first solve")
    worker.kill_child()
    wait_until(lambda: world.runs_of("killed")[0].closed, "the planner to notice")
    world.planner.is_held = False
    assert world.result(sample).outcome == "passed"
    inode = world.inode(sample)
    world.wait_until_drained()
    assert finished(world, "killed") == [False, True]
    assert (world.inode(sample), len(world.results.sample_ids("child"))) == (inode, 1)


@pytest.mark.parametrize("kill", [Worker.kill_parent, Worker.kill_all], ids=["parent", "all"])
def test_a_sample_whose_worker_is_killed_is_delivered_again_and_judged_once(
    world: QueueWorld, worker: Worker, kill: Callable[[Worker], None]
) -> None:
    word = f"lost-{kill.__name__}"
    sample = sample_of(word, "parent")
    world.planner.is_held = True
    world.send(sample)
    wait_until(lambda: len(world.runs_of(word)) == 1, "the first solve")
    orphans = children_of(worker.process.pid)
    kill(worker)
    world.start_worker()
    world.planner.is_held = False
    assert world.result(sample).outcome == "passed"
    inode = world.inode(sample)
    world.wait_until_drained()
    assert finished(world, word).count(True) == 1
    assert world.inode(sample) == inode
    wait_until(lambda: not any(is_alive(pid) for pid in orphans), "the lost worker's child to end")


def test_a_sample_that_kills_every_process_ends_as_an_infrastructure_error(
    world: QueueWorld, worker: Worker
) -> None:
    kill = {"poison": worker.kill_child}
    world.planner.on_start = lambda word: kill.get(word, lambda: None)()
    poison, *others = [sample_of(word, "poison") for word in ("poison", "epsilon", "zeta")]
    world.send(poison, *others)
    assert [world.result(sample).outcome for sample in others] == ["passed"] * 2
    found = world.result(poison)
    world.wait_until_drained()
    assert (found.outcome, found.reason) == (
        "infrastructure_error",
        "its worker was lost 3 times",
    )
    assert len(world.runs_of("poison")) == 3


def test_a_planner_that_is_away_is_waited_for_and_no_failure_of_the_model(
    module_world: QueueWorld, worker: Worker
) -> None:
    sample = sample_of("patience", "away")
    module_world.send(sample)
    wait_until(lambda: _postponed(module_world) >= 2, "two attempts")
    assert module_world.results.sample_ids("away") == set()
    with module_world.serve_planner():
        assert module_world.result(sample).outcome == "passed"
    module_world.wait_until_drained()


def _postponed(world: QueueWorld) -> int:
    return (world.home / "worker.log").read_text(encoding="utf-8").count("sample_postponed")


def test_a_sample_that_was_sent_three_times_is_solved_once(
    world: QueueWorld, worker: Worker
) -> None:
    second = world.start_worker()
    sample = sample_of("thrice", "duplicates")
    world.planner.is_held = True
    world.send(sample, sample, sample)
    wait_until(lambda: len(world.runs_of("thrice")) == 1, "the solve")
    wait_until(lambda: world.redis.llen("evaluator") == 0, "the other worker to take one")
    world.planner.is_held = False
    assert world.result(sample).outcome == "passed"
    world.wait_until_drained()
    assert finished(world, "thrice") == [True]
    second.kill_all()
