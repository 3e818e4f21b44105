"""`python -m services.toolenv`: serve the tool environment over HTTP."""

import argparse
import sys

import uvicorn
from pydantic import ValidationError

from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings
from services.toolenv.app import build_app
from services.toolenv.settings import ToolEnvSettings

_BAD_SETTINGS = 2


def main() -> int:
    """Serve until interrupted; non-zero when the settings are wrong or the service cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m services.toolenv",
        description="Executes API calls: api.py in the sandbox, or another ToolBench backend. "
        "Settings are read from TOOLENV_* and TOOLWRIGHT_HOME.",
    )
    parser.add_argument("--host", help="address to listen on (TOOLENV_HOST)")
    parser.add_argument("--port", type=int, help="TCP port, 0 takes a free one (TOOLENV_PORT)")
    arguments = parser.parse_args()
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    try:
        settings, shared = ToolEnvSettings(**given), SharedSettings()
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False):  # it may be a secret
            where = ".".join(str(part) for part in error["loc"]) or "all together"
            print(f"toolenv: {exc.title}, {where}: {error['msg']}", file=sys.stderr)
        return _BAD_SETTINGS
    configure_logging(shared.log_level)
    # A failed start makes uvicorn log the cause and exit with status 3.
    uvicorn.run(
        build_app(settings, shared), host=settings.host, port=settings.port, access_log=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
