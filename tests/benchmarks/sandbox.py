"""One call in the sandbox against the start of a plain Python, interleaved in one run.

    python tests/benchmarks/sandbox.py HOME_FOLDER

The last line of stdout is JSON.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from services.toolenv.sandbox import Sandbox, open_sandbox

SOURCE = 'def f(x=1):\n    return {"x": x}\n'
PYTHON = [sys.executable, "-I", "-S", "-c", "pass"]


async def call_s(sandbox: Sandbox, source: str) -> float:
    started = time.perf_counter()
    await sandbox.call(source=source, function="f", arguments={}, deadline_s=5)
    return time.perf_counter() - started


async def measure(home: Path) -> dict[str, float]:
    warm, new, plain = [], [], []
    async with open_sandbox(home=home) as sandbox:
        for number in range(120):
            await asyncio.sleep(0.01)
            warm.append(await call_s(sandbox, SOURCE))
            new.append(await call_s(sandbox, f"{SOURCE}# {number}\n"))
            started = time.perf_counter()
            subprocess.run(PYTHON, check=True)  # noqa: ASYNC221 -- nothing else may run meanwhile
            plain.append(time.perf_counter() - started)
    figures = {"warm_call_p50_ms": warm[10:], "new_tool_p50_ms": new, "python_p50_ms": plain}
    medians = {name: statistics.median(times) * 1e3 for name, times in figures.items()}
    ratio = medians["warm_call_p50_ms"] / medians["python_p50_ms"]
    return medians | {"warm_to_subprocess_ratio": ratio}


if __name__ == "__main__":
    found = asyncio.run(measure(Path(sys.argv[1])))
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(json.dumps({"bench": "sandbox", "figures": found, "machine": machine}))
