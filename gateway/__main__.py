"""`python -m gateway`: serve over HTTP."""

import sys

from gateway.app import build_app
from gateway.settings import GatewaySettings
from services.kit.serve import serve


def main() -> int:
    """See `services.kit.serve.serve`."""
    return serve(
        module="gateway",
        description="Serves the page, ToolBench's /stream and the API; its services run elsewhere.",
        settings_class=GatewaySettings,
        build_app=lambda settings, _: build_app(settings),
    )


if __name__ == "__main__":
    sys.exit(main())
