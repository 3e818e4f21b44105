"""`python -m services.llm`: serve over HTTP."""

import sys

from services.kit.serve import serve
from services.llm.app import build_app
from services.llm.settings import LlmSettings


def main() -> int:
    """See `services.kit.serve.serve`."""
    return serve(
        module="services.llm",
        description="Samples replies from a local model, or from the server at LLM_BASE_URL.",
        settings_class=LlmSettings,
        build_app=build_app,
    )


if __name__ == "__main__":
    sys.exit(main())
