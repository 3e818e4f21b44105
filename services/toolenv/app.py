"""The FastAPI application of the tool environment."""

from fastapi import FastAPI

from services.kit.app import create_app
from services.kit.settings import SharedSettings
from services.toolenv.bootstrap import open_toolenv
from services.toolenv.routes import router
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings


def build_app(settings: ToolEnvSettings, shared: SharedSettings) -> FastAPI:
    """Return the app; its lifespan opens and closes the service."""
    return create_app(
        title="Toolwright tool environment",
        routers=[router],
        open_service=lambda: open_toolenv(settings, shared),
        check_ready=ToolEnvService.check_ready,
    )
