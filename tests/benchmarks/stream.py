"""Latency and throughput of `/stream` on the embedded system: one by one against all at once.

    python tests/benchmarks/stream.py [--runs 20] [--url URL]

Starts `toolwright up` unless a URL is given. The last line of stdout is JSON; ratios compare the
same instructions in the same process.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

_TEXTS = "What is {} kilometres in metres?"


@contextmanager
def running_system(url: str | None) -> Iterator[tuple[str, float]]:
    """URL of a system, and the seconds it took to be ready (0 when it ran already)."""
    if url is not None:
        yield url, 0.0
        return
    started = time.monotonic()
    command = [sys.executable, "-m", "cli", "up", "--port", "0", "--no-worker"]
    environment = os.environ | {"LOG_LEVEL": "WARNING"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            for line in process.stdout or ():
                if found := re.search(r"ready at (http://\S+)", line):
                    yield found[1], time.monotonic() - started
                    break
        finally:
            process.terminate()


async def one_run(client: httpx.AsyncClient, text: str) -> tuple[float, float]:
    """Milliseconds to the first line and to `on_tool_retrieval_end`."""
    started = time.perf_counter()
    first = retrieved = 0.0
    body = {"text": text, "top_k": 5, "method": "DFS_woFilter_w2"}
    async with client.stream("POST", "/stream", json=body) as response:
        async for line in response.aiter_lines():
            elapsed_ms = (time.perf_counter() - started) * 1e3
            first = first or elapsed_ms
            if '"on_tool_retrieval_end"' in line:
                retrieved = elapsed_ms
    return first, retrieved


async def measure(url: str, runs: int) -> dict[str, float]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await one_run(client, _TEXTS.format(77))
        started = time.perf_counter()
        singles = [await one_run(client, _TEXTS.format(200 + n)) for n in range(runs)]
        single_s = time.perf_counter() - started
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for n in range(runs):
                group.create_task(one_run(client, _TEXTS.format(200 + n)))
        at_once_s = time.perf_counter() - started
    return {
        "first_line_p50_ms": statistics.median(first for first, _ in singles),
        "first_line_max_ms": max(first for first, _ in singles),
        "retrieval_end_p50_ms": statistics.median(retrieved for _, retrieved in singles),
        "single_runs_s": single_s,
        "runs_at_once_s": at_once_s,
        "at_once_to_single_ratio": at_once_s / single_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--url")
    options = parser.parse_args()
    with running_system(options.url) as (url, ready_s):
        figures = asyncio.run(measure(url, options.runs)) | {"ready_s": ready_s}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(
        "goals: first line < 50 ms, retrieval end <= 300 ms, "
        f"at once <= 0.7 x {options.runs} single runs"
    )
    print(json.dumps({"bench": "stream", "figures": figures, "machine": machine}))


if __name__ == "__main__":
    main()
