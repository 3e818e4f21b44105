"""Calls in the sandbox against the start of a plain Python, interleaved in one run.

    python tests/benchmarks/sandbox.py [--quick]

Both goals are printed beside each figure: the one for an idle machine, and the one that must hold
next to other work. The last line of stdout is JSON. The sandbox lives under `TOOLWRIGHT_HOME`, or
in a temporary folder where that is unset.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from services.toolenv.sandbox import Sandbox, SandboxOutcome, open_sandbox

SOURCE = 'def f(x=1):\n    return {"x": x}\n'
PYTHON = [sys.executable, "-I", "-S", "-c", "pass"]
CONCURRENCY = 8
POOL_SIZE = 8
PAUSE_S = 0.01  # between single calls, so that the pool is full again


class Goal(NamedTuple):
    """Bounds of one figure; `is_upper` when smaller is better."""

    idle: float
    noisy: float
    is_upper: bool = True


GOALS = {
    "warm_call_p50_ms": Goal(1.0, 2.0),
    "warm_to_subprocess_ratio": Goal(0.05, 0.15),
    "calls_per_s": Goal(500, 200, is_upper=False),
    "new_tool_p50_ms": Goal(5.0, 10.0),
    "worker_private_mb": Goal(3.0, 3.0),
}


async def call_s(sandbox: Sandbox, source: str) -> float:
    """Seconds of one call, which must succeed."""
    started = time.perf_counter()
    result = await sandbox.call(source=source, function="f", arguments={}, deadline_s=20)
    elapsed_s = time.perf_counter() - started
    if result.outcome is not SandboxOutcome.OK:
        raise RuntimeError(f"a call ended as {result.outcome}: {result.error}")
    return elapsed_s


async def measure_single(sandbox: Sandbox, rounds: int) -> dict[str, float]:
    """Warm calls, never-seen tools and plain Pythons, one of each in turn."""
    warm, new, plain = [], [], []
    await call_s(sandbox, SOURCE)
    for number in range(rounds):
        await asyncio.sleep(PAUSE_S)
        warm.append(await call_s(sandbox, SOURCE))
        await asyncio.sleep(PAUSE_S)
        new.append(await call_s(sandbox, f"{SOURCE}# {number} {time.time_ns()}\n"))
        await asyncio.sleep(PAUSE_S)
        started = time.perf_counter()
        subprocess.run(PYTHON, check=True, timeout=60)  # noqa: ASYNC221  # nothing else may run
        plain.append(time.perf_counter() - started)
    warm_s, plain_s = statistics.median(warm), statistics.median(plain)
    print(f"plain `python -I -S -c pass`: {plain_s * 1e3:.2f} ms")
    return {
        "warm_call_p50_ms": warm_s * 1e3,
        "warm_to_subprocess_ratio": warm_s / plain_s,
        "new_tool_p50_ms": statistics.median(new) * 1e3,
    }


async def measure_throughput(sandbox: Sandbox, calls: int, rounds: int) -> float:
    """Median over the rounds of calls a second, `CONCURRENCY` at a time."""
    rates = []
    for _ in range(rounds):
        left = iter(range(calls))

        async def caller(left: Iterator[int] = left) -> None:
            for _ in left:
                await call_s(sandbox, SOURCE)

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(caller())
        rates.append(calls / (time.perf_counter() - started))
    return statistics.median(rates)


def private_mb(sandbox: Sandbox) -> float:
    """Mean private memory of the idle workers, as the kernel counts it, MB of 10^6 bytes."""
    sizes = []
    for zygote in filter(None, sandbox.zygote_pids):
        for pid in Path(f"/proc/{zygote}/task/{zygote}/children").read_text("ascii").split():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
            kilobytes = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", rollup, re.MULTILINE)
            sizes.append(sum(map(int, kilobytes)) * 1024 / 1e6)
    return statistics.mean(sizes)


async def measure(home: Path, *, is_quick: bool) -> dict[str, float]:
    """All figures."""
    shards = min(2, os.cpu_count() or 1)
    async with open_sandbox(
        home=home, pool_size=POOL_SIZE, zygotes=shards, probes=False
    ) as sandbox:
        print(f"tier {sandbox.tier}, {shards} zygotes, {POOL_SIZE} workers ahead of demand")
        figures = await measure_single(sandbox, 80 if is_quick else 250)
        await asyncio.sleep(0.2)
        figures["worker_private_mb"] = private_mb(sandbox)
        figures["calls_per_s"] = await measure_throughput(
            sandbox, 400 if is_quick else 1000, 3 if is_quick else 5
        )
    return {name: round(figures[name], 4) for name in GOALS}


def print_goals(figures: dict[str, float]) -> None:
    """One line a figure with both goals."""
    for name, goal in GOALS.items():
        verdicts = [
            f"{label} {'<=' if goal.is_upper else '>='} {bound:g} "
            f"{'met' if (figures[name] <= bound) == goal.is_upper else 'MISSED'}"
            for label, bound in (("idle", goal.idle), ("noisy", goal.noisy))
        ]
        print(f"{name:26} {figures[name]:10.3f}   {',  '.join(verdicts)}")


@contextmanager
def home_folder() -> Iterator[Path]:
    """The sandbox's home: kept below `TOOLWRIGHT_HOME`, else temporary."""
    given = os.environ.get("TOOLWRIGHT_HOME")
    if given:
        yield Path(given) / "sandbox"
        return
    with tempfile.TemporaryDirectory(prefix="toolwright-bench-") as folder:
        yield Path(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under 30 s")
    is_quick = parser.parse_args().quick
    with home_folder() as home:
        figures = asyncio.run(measure(home, is_quick=is_quick))
    print_goals(figures)
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(json.dumps({"bench": "sandbox", "figures": figures, "machine": machine}))


if __name__ == "__main__":
    main()
