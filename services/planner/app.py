"""The FastAPI application of the planner."""

from fastapi import FastAPI

from services.kit.app import create_app
from services.kit.browsers import NoBrowsersMiddleware
from services.kit.settings import SharedSettings
from services.planner.bootstrap import open_planner
from services.planner.routes import router
from services.planner.settings import PlannerSettings


def build_app(settings: PlannerSettings, shared: SharedSettings) -> FastAPI:
    """Return the app; its lifespan opens and closes the service."""
    app = create_app(
        title="Toolwright planner",
        routers=[router],
        open_service=lambda: open_planner(settings, shared),
    )
    app.add_middleware(NoBrowsersMiddleware)
    return app
