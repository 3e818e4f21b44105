"""The FastAPI application of the tool environment."""

from typing import cast

from fastapi import FastAPI

from services.kit.app import create_app
from services.kit.browsers import NoBrowsersMiddleware
from services.kit.settings import SharedSettings
from services.toolenv.bootstrap import build_wire, open_toolenv
from services.toolenv.routes import router
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.wire import add_wire


def build_app(settings: ToolEnvSettings, shared: SharedSettings) -> FastAPI:
    """Return the app; its lifespan opens and closes the service."""
    app = create_app(
        title="Toolwright tool environment",
        routers=[router],
        open_service=lambda: open_toolenv(settings, shared),
        check_ready=ToolEnvService.check_ready,
    )
    # Holds because this application has no other service.
    add_wire(app, build_wire(settings, lambda r: cast(ToolEnvService, r.state.service)))
    app.add_middleware(NoBrowsersMiddleware)
    return app
