"""A real Redis and real Celery workers around a fake planner, for tests of the evaluation queue."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
from anyio.from_thread import BlockingPortal, start_blocking_portal

from infra.embedded.processes import private_redis
from infra.embedded.server import serve_socket
from services.contracts.evaluator import ExpectedAnswer, Sample, SampleResult
from services.contracts.ids import SampleId
from services.contracts.planner import PlanEvent, SolveRequest
from services.evaluator.campaign import QUEUE_NAME, TASK_NAME
from services.evaluator.results import ResultStore
from services.kit.app import create_app
from services.kit.queue import create_queue
from services.planner.routes import router
from tests.fakes import plan_runs

REDELIVERY_S = 3.0
_WAIT_S = 40.0
_SETTINGS = {
    "EVALUATOR_REDELIVERY_S": str(REDELIVERY_S),
    "EVALUATOR_LEASE_S": "1.5",
    "EVALUATOR_RETRY_S": "0.3",
    "EVALUATOR_MAX_DELIVERIES": "3",
}


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fail the test after `_WAIT_S`."""
    end = time.monotonic() + _WAIT_S
    while not is_true():
        assert time.monotonic() < end, f"waited {_WAIT_S} s for {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    """Living processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            if fields[1] == str(pid) and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


@dataclass
class Solve:
    """One run: `finished` when all of it was sent, `closed` when it ended in any way."""

    word: str
    finished: bool = False
    closed: bool = False


@dataclass
class CountingPlanner:
    """A `Planner` whose answer repeats the instruction; it keeps what became of every run."""

    is_held: bool = False
    """Runs wait after their first event."""
    on_start: Callable[[str], None] = lambda _: None
    runs: list[Solve] = field(default_factory=list)

    async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        run = Solve(request.instruction)
        self.runs.append(run)
        self.on_start(run.word)
        try:
            for event in plan_runs.short(run.word):
                yield event
                async with asyncio.timeout(_WAIT_S):
                    while self.is_held:  # noqa: ASYNC110  # set by another thread
                        await asyncio.sleep(0.01)
            run.finished = True
        finally:
            run.closed = True


@dataclass
class Worker:
    """A Celery worker with one child."""

    process: "subprocess.Popen[bytes]"

    def kill_child(self) -> None:
        for pid in children_of(self.process.pid):
            os.kill(pid, signal.SIGKILL)

    def kill_parent(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def kill_all(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@dataclass
class QueueWorld:
    """Everything that a sample meets on its way."""

    home: Path
    redis_url: str
    planner: CountingPlanner
    planner_socket: Path
    portal: BlockingPortal
    results: ResultStore
    workers: list[Worker] = field(default_factory=list)

    @property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url.replace("redis+socket://", "unix://"))

    def serve_planner(self) -> AbstractContextManager[None]:
        """Let the planner be reached for the duration of the block."""
        return self.portal.wrap_async_context_manager(
            serve_planner_at(self.planner, self.planner_socket)
        )

    def start_worker(self) -> Worker:
        """Start a worker and wait until it has a child."""
        command = [sys.executable, "-m", "celery", "-A", "services.evaluator.worker", "worker"]
        command += ["--concurrency", "1", "--loglevel", "WARNING", "--without-mingle"]
        command += ["--without-gossip", "--hostname", f"worker-{len(self.workers)}@test"]
        with (self.home / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    "PATH": os.defpath,
                    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                    "TOOLWRIGHT_HOME": str(self.home),
                    "REDIS_URL": self.redis_url,
                    "EVALUATOR_PLANNER_SOCKET": str(self.planner_socket),
                    **_SETTINGS,
                },
            )
        worker = Worker(process)
        self.workers.append(worker)
        wait_until(lambda: bool(children_of(process.pid)), "a worker to start")
        return worker

    def send(self, *samples: Sample) -> None:
        queue = create_queue(QUEUE_NAME, redis_url=self.redis_url, redelivery_s=REDELIVERY_S)
        with queue.connection_for_write() as connection:
            for sample in samples:
                queue.send_task(TASK_NAME, args=[sample.model_dump_json()], connection=connection)

    def runs_of(self, word: str) -> list[Solve]:
        return [run for run in self.planner.runs if run.word == word]

    def result(self, sample: Sample) -> SampleResult:
        """The sample's result, once there is one."""
        wait_until(lambda: self._read(sample) is not None, f"a result of {sample.instruction}")
        found = self._read(sample)
        assert found is not None
        return found

    def inode(self, sample: Sample) -> int:
        """Changes with every write of the result."""
        path = self.home / "results" / sample.campaign / f"{sample.sample_id}.json"
        return path.stat().st_ino

    def wait_until_drained(self) -> None:
        """Wait until no message waits, runs or may come back."""
        client = self.redis
        wait_until(
            lambda: client.llen(QUEUE_NAME) == 0 and client.hlen("unacked") == 0,
            "the queue to drain",
        )

    def _read(self, sample: Sample) -> SampleResult | None:
        return self.results.read(sample.campaign, sample.sample_id)


@asynccontextmanager
async def serve_planner_at(planner: CountingPlanner, socket: Path) -> AsyncIterator[None]:
    """Serve a planner's HTTP face on a unix socket, in the running event loop."""

    @asynccontextmanager
    async def open_planner() -> AsyncIterator[CountingPlanner]:
        yield planner

    app = create_app(title="planner", routers=(router,), open_service=open_planner)
    async with serve_socket(app, socket):
        yield


@contextmanager
def open_world(home: Path) -> Iterator[QueueWorld]:
    """Redis and the planner's thread; workers are started by the tests and killed at the end."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(private_redis(home)) as url,
    ):
        socket = Path(url.removeprefix("redis+socket://")).with_name("planner.sock")
        store = ResultStore(home / "results")
        world = QueueWorld(home, url, CountingPlanner(), socket, portal, store)
        try:
            yield world
        finally:
            for worker in world.workers:
                worker.kill_all()


def sample_of(word: str, campaign: str) -> Sample:
    """A sample whose right answer is the word itself."""
    return Sample(
        sample_id=SampleId(f"{word}_CoT@1"),
        campaign=campaign,
        query_id=1,
        instruction=word,
        method="CoT@1",
        apis=None,
        expected=ExpectedAnswer(contains=(word,)),
    )
