"""The command line that every service's `__main__` shares."""

import argparse
import sys
from collections.abc import Callable
from typing import TypeVar

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.contracts.errors import InvalidArgument, NotFound, ServiceError
from services.kit.logging import configure_logging
from services.kit.settings import ServedSettings, SharedSettings
from services.kit.telemetry import open_telemetry

BAD_SETTINGS = 2
CANNOT_START = 1
_STOP_S = 8  # for open streams; Docker kills after 10 s, and the service has to close after them

S = TypeVar("S", bound=ServedSettings)


def serve(
    *,
    module: str,
    description: str,
    settings_class: type[S],
    build_app: Callable[[S, SharedSettings], FastAPI],
) -> int:
    """Parse the command line, read the settings and serve until interrupted.

    Args:
        module: What follows `python -m`.
        description: What the service does, for `--help`.
        settings_class: Read from the environment; `--host` and `--port` come before it.
        build_app: Makes the application.

    Returns:
        Exit status: 2 when a setting is wrong, which is named without its value. When the service
        cannot start, the reason is one line: 2 when it names something wrong or missing, else 1, as
        of `toolwright`. Of a defect uvicorn logs the traceback, and exits with status 3.
    """
    prefix = settings_class.model_config.get("env_prefix", "")
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--host", help=f"address to listen on ({prefix}HOST)")
    parser.add_argument("--port", type=int, help=f"TCP port, 0 takes a free one ({prefix}PORT)")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings, shared = settings_class(**given), SharedSettings()
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False):  # it may be a secret
            where = ".".join(str(part) for part in error["loc"]) or "all together"
            sys.stderr.write(f"{module}: {exc.title}, {where}: {error['msg']}\n")
        return BAD_SETTINGS
    configure_logging(shared.log_level)
    try:
        app = _Starting(build_app(settings, shared))
        with open_telemetry(
            module,
            endpoint=shared.otel_exporter_otlp_endpoint,
            file=shared.toolwright_trace_file,
        ):
            uvicorn.run(
                app,
                host=settings.host,
                port=settings.port,
                access_log=False,
                timeout_graceful_shutdown=_STOP_S,
            )
    except ServiceError as exc:
        return _refused(exc)
    except SystemExit:
        if app.failure is None:
            raise
        return _refused(app.failure)
    return 0


def _refused(error: ServiceError) -> int:
    sys.stderr.write(f"error: {error.detail}\n")
    return BAD_SETTINGS if isinstance(error, InvalidArgument | NotFound) else CANNOT_START


class _Starting:
    """An app whose start may be refused for a reason; then nobody needs the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: ServiceError | None = None
        """Why the app did not start."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the app's life."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: Message | None = None

        async def send_unless_failed(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message  # its text is the traceback, whatever failed
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_unless_failed)
        except ServiceError as exc:
            if failed is not None:
                self.failure, failed = exc, {**failed, "message": ""}
            raise
        finally:
            if failed is not None:
                await send(failed)
