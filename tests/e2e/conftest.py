"""One real system for all end-to-end tests: `toolwright up` in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import httpx
import pytest

START_S = 180.0
STOP_S = 30.0


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home folder: the index and the sandbox's root file system are built in it."""
    return tmp_path_factory.mktemp("home")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli", *arguments]


@pytest.fixture(scope="session")
def environment(home: Path) -> dict[str, str]:
    keep = ("PATH", "HOME", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM")
    return {name: os.environ[name] for name in keep if name in os.environ} | {
        "TOOLWRIGHT_HOME": str(home),
        "TOOLWRIGHT_URL": "http://127.0.0.1:9",  # nobody listens there: commands host themselves
        "LOG_LEVEL": "WARNING",
    }


@pytest.fixture(scope="session")
def system(environment: dict[str, str]) -> Iterator[str]:
    """URL of the running system."""
    with running_system(environment) as url:
        yield url


@contextmanager
def running_system(environment: dict[str, str], *options: str) -> Iterator[str]:
    """URL of a system of its own, stopped at the end of the block."""
    process = subprocess.Popen(
        command("up", "--port", "0", *options),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield _wait_for_url(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_url(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    lines: Queue[str] = Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    seen: list[str] = []
    while True:
        try:
            seen.append(lines.get(timeout=START_S))
        except Empty:
            pytest.fail(f"the system was not ready within {START_S} s:\n{''.join(seen)[-3000:]}")
        found = re.search(r"ready at (http://\S+)", seen[-1])
        if found:
            return found[1]


@pytest.fixture
def client(system: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system, timeout=120) as client:
        yield client
