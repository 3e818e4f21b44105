"""`python -m services.toolenv`: serve over HTTP."""

import sys

from services.kit.serve import serve
from services.toolenv.app import build_app
from services.toolenv.settings import ToolEnvSettings


def main() -> int:
    """See `services.kit.serve.serve`."""
    return serve(
        module="services.toolenv",
        description="Executes API calls: recorded, live, in the sandbox, or simulated.",
        settings_class=ToolEnvSettings,
        build_app=build_app,
    )


if __name__ == "__main__":
    sys.exit(main())
