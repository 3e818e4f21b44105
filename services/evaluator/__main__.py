"""`python -m services.evaluator`: serve over HTTP."""

import sys

from services.evaluator.app import build_app
from services.evaluator.settings import EvaluatorSettings
from services.kit.serve import serve


def main() -> int:
    """See `services.kit.serve.serve`."""
    return serve(
        module="services.evaluator",
        description="Solves and judges samples, and reports pass rates.",
        settings_class=EvaluatorSettings,
        build_app=build_app,
    )


if __name__ == "__main__":
    sys.exit(main())
