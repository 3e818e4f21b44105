"""The FastAPI application of the language-model service."""

from fastapi import FastAPI

from services.kit.app import create_app
from services.kit.browsers import NoBrowsersMiddleware
from services.kit.settings import SharedSettings
from services.llm.bootstrap import open_llm
from services.llm.routes import router
from services.llm.service import LlmService
from services.llm.settings import LlmSettings


def build_app(settings: LlmSettings, shared: SharedSettings) -> FastAPI:
    """Return the app; its lifespan opens and closes the service."""
    app = create_app(
        title="Toolwright language model",
        routers=[router],
        open_service=lambda: open_llm(settings, shared),
        check_ready=LlmService.check_ready,
    )
    app.add_middleware(NoBrowsersMiddleware)
    return app
