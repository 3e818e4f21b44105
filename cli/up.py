"""`toolwright up`: serves the whole system in one process."""

import asyncio
import signal
import time
from typing import Annotated

import typer

from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 5000,
    worker: Annotated[bool, typer.Option(help="Run Redis and the evaluation worker.")] = True,
) -> None:
    """Start every service in this process and print the URL when ready; Ctrl-C stops it."""
    configure_logging(SharedSettings().log_level)
    asyncio.run(_up(host, port, with_worker=worker))


async def _up(host: str, port: int, *, with_worker: bool) -> None:
    from infra.embedded.host import serve  # heavy: torch and the encoder

    started = time.monotonic()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(host=host, port=port, with_worker=with_worker) as url:
        print(f"Toolwright is ready at {url} after {time.monotonic() - started:.1f} s", flush=True)
        await stop.wait()
