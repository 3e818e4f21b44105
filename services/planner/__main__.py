"""`python -m services.planner`: serve over HTTP."""

import sys

from services.kit.serve import serve
from services.planner.app import build_app
from services.planner.settings import PlannerSettings


def main() -> int:
    """See `services.kit.serve.serve`."""
    return serve(
        module="services.planner",
        description="Solves instructions by searching over tool calls, and streams every step.",
        settings_class=PlannerSettings,
        build_app=build_app,
    )


if __name__ == "__main__":
    sys.exit(main())
