"""`python -m services.retriever`: serve over HTTP."""

import sys

from services.kit.serve import serve
from services.retriever.app import build_app
from services.retriever.settings import RetrieverSettings


def main() -> int:
    """See `services.kit.serve.serve`."""
    return serve(
        module="services.retriever",
        description="Ranks the APIs of the catalogue for a text.",
        settings_class=RetrieverSettings,
        build_app=build_app,
    )


if __name__ == "__main__":
    sys.exit(main())
