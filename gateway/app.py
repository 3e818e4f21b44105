"""Builds the gateway's FastAPI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from gateway.backends import Backends
from gateway.bootstrap import open_backends
from gateway.routes import kept, page, retrieve, runs, stream, tools
from gateway.runs import RunPool
from gateway.security import SameOriginMiddleware
from gateway.settings import GatewaySettings
from gateway.state import GatewayState
from services.contracts.errors import Unavailable
from services.kit.app import create_app


def build_app(
    settings: GatewaySettings,
    open_: Callable[[], AbstractAsyncContextManager[Backends]] | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        settings: The gateway's own settings.
        open_: Opens the services behind it; HTTP clients of the settings' URLs when `None`.
    """
    opener = open_ or partial(open_backends, settings)

    @asynccontextmanager
    async def open_state() -> AsyncIterator[GatewayState]:
        async with opener() as backends:
            yield GatewayState(backends=backends, pool=RunPool(backends))

    app = create_app(
        title="Toolwright gateway",
        routers=(
            stream.router,
            runs.router,
            kept.router,
            retrieve.router,
            tools.router,
            page.router,
        ),
        open_service=open_state,
        check_ready=_check_ready,
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type"],
        )
    app.add_middleware(SameOriginMiddleware, allowed_origins=settings.allowed_origins)
    return app


async def _check_ready(state: GatewayState) -> None:
    if await state.backends.retriever.status() is None:
        raise Unavailable("the retriever has no index yet; `toolwright index build` makes one")
