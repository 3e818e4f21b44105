"""`python -m services.toolenv`, with a wall clock that a test sets.

SIGUSR1 sets it a day forward, SIGUSR2 two days back.
"""

import runpy
import signal
import sys
import time
from pathlib import Path

_DAY_S = 86_400.0


def main() -> None:
    """Replace the clock before anything binds it, then serve."""
    wall, offset = time.time, [0.0]
    time.time = lambda: wall() + offset[0]

    def jump(number: int, _frame: object) -> None:
        offset[0] += _DAY_S if number == signal.SIGUSR1 else -2 * _DAY_S

    signal.signal(signal.SIGUSR1, jump)
    signal.signal(signal.SIGUSR2, jump)
    sys.path[0] = str(Path.cwd())
    runpy.run_module("services.toolenv", run_name="__main__")


if __name__ == "__main__":
    main()
