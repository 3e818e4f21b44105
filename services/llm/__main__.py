"""`python -m services.llm`: serve the language model over HTTP."""

import argparse
import sys

import uvicorn
from pydantic import ValidationError

from services.kit.app import describe_validation
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings
from services.llm.app import build_app
from services.llm.settings import LlmSettings

_BAD_SETTINGS = 2


def main() -> int:
    """Serve until interrupted; non-zero when the settings are wrong or the model cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m services.llm",
        description="Samples replies from the bundled model, or from the OpenAI-compatible server "
        "at LLM_BASE_URL. Settings are read from LLM_*.",
    )
    parser.add_argument("--host", help="address to listen on (LLM_HOST)")
    parser.add_argument("--port", type=int, help="TCP port, 0 takes a free one (LLM_PORT)")
    arguments = parser.parse_args()
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    try:
        settings, shared = LlmSettings(**given), SharedSettings()
    except ValidationError as exc:
        print(f"llm: {describe_validation(exc)}", file=sys.stderr)
        return _BAD_SETTINGS
    configure_logging(shared.log_level)
    # A failed start makes uvicorn log the cause and exit with status 3.
    uvicorn.run(
        build_app(settings, shared), host=settings.host, port=settings.port, access_log=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
