"""Builds the evaluator's FastAPI application."""

from fastapi import FastAPI

from services.evaluator.bootstrap import open_evaluator
from services.evaluator.routes import router
from services.evaluator.settings import EvaluatorSettings
from services.kit.app import create_app
from services.kit.browsers import NoBrowsersMiddleware
from services.kit.settings import SharedSettings


def build_app(settings: EvaluatorSettings, shared: SharedSettings) -> FastAPI:
    """Return the app; its lifespan opens and closes the service."""
    app = create_app(
        title="Toolwright evaluator",
        routers=(router,),
        open_service=lambda: open_evaluator(settings, shared),
    )
    app.add_middleware(NoBrowsersMiddleware)
    return app
