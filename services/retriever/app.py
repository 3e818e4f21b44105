"""The retriever as an ASGI application."""

from functools import partial

from fastapi import FastAPI

from services.kit.app import create_app
from services.kit.browsers import NoBrowsersMiddleware
from services.kit.settings import SharedSettings
from services.retriever.bootstrap import open_retriever
from services.retriever.routes import create_router
from services.retriever.service import RetrieverService
from services.retriever.settings import RetrieverSettings


def build_app(settings: RetrieverSettings, shared: SharedSettings) -> FastAPI:
    """App that opens the service when it starts and closes it when it stops."""
    app = create_app(
        title="Toolwright retriever",
        routers=[create_router()],
        open_service=partial(open_retriever, settings, shared),
        check_ready=RetrieverService.check_ready,
    )
    app.add_middleware(NoBrowsersMiddleware)
    return app
