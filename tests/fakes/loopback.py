"""Serves an ASGI application with uvicorn on a free loopback port, in the running event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def serve(app: Any) -> AsyncIterator[str]:
    """Base URL of the running application; it is shut down at the end of the context."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            task = group.create_task(server.serve(sockets=[listener]))
            while not server.started:
                if task.done():
                    raise RuntimeError("the application did not start; the log says why")
                await asyncio.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
