"""`python -m services.planner`: serve the planner over HTTP."""

import argparse
import sys

import uvicorn
from pydantic import ValidationError

from services.kit.app import describe_validation
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings
from services.planner.app import build_app
from services.planner.settings import PlannerSettings

_BAD_SETTINGS = 2


def main() -> int:
    """Serve until interrupted; non-zero when the settings are wrong or the service cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m services.planner",
        description="Solves instructions by searching over tool calls, and streams every step. "
        "Settings are read from PLANNER_*.",
    )
    parser.add_argument("--host", help="address to listen on (PLANNER_HOST)")
    parser.add_argument("--port", type=int, help="TCP port, 0 takes a free one (PLANNER_PORT)")
    arguments = parser.parse_args()
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    try:
        settings, shared = PlannerSettings(**given), SharedSettings()
    except ValidationError as exc:
        print(f"planner: {describe_validation(exc)}", file=sys.stderr)
        return _BAD_SETTINGS
    configure_logging(shared.log_level)
    uvicorn.run(build_app(settings), host=settings.host, port=settings.port, access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
