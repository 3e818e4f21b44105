"""Processes that the tests of the record start, kill and starve; each prints what it achieved.

Run as `python cassette_children.py ROLE PATH [ARGUMENT]`.
"""

import asyncio
import itertools
import resource
import sys
from contextlib import closing
from pathlib import Path

from services.contracts.errors import ServiceError
from services.toolenv.cassettes.store import Store
from tests.fakes.recordings import make_recording

CROWD = 16


async def write_for_ever(store: Store, offset: int) -> None:
    """Acknowledge each recording on its own line, only after it is durable."""
    numbers = itertools.count(offset)

    async def worker() -> None:
        for number in numbers:
            await store.put(make_recording(number, "x" * 500))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(worker())


async def write_some(store: Store, offset: int) -> None:
    """Record 300 answers of one API at once."""
    async with asyncio.TaskGroup() as group:
        for number in range(offset, offset + 300):
            group.create_task(store.put(make_recording(number)))


def fill(store: Store, limit_bytes: int) -> None:
    """Write until the files may not grow any more; print what was acknowledged, then the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    for number in range(100_000):
        try:
            store.put_now(make_recording(number, "x" * 5000))
        except ServiceError as exc:
            print(type(exc).__name__, exc.detail)
            return
        print(number)


def main() -> None:
    role, path, argument = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with closing(Store(path, busy_timeout_s=30)) as store:
        if role == "write_for_ever":
            asyncio.run(write_for_ever(store, argument))
        elif role == "write_some":
            asyncio.run(write_some(store, argument))
        else:
            fill(store, argument)


if __name__ == "__main__":
    main()
