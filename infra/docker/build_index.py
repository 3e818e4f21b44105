"""`python -m infra.docker.build_index`: has the retriever index what the tool environment offers.

A one-shot container runs it before the gateway starts. Repeating it costs a second: an index of the
same documents is reopened, not rebuilt.
"""

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack

import httpx

from services.contracts.clients.retriever import HttpRetriever
from services.contracts.clients.toolenv import HttpToolEnv
from services.contracts.errors import ServiceError
from services.contracts.retriever import IndexStatus


async def build_index(*, toolenv_url: str, retriever_url: str) -> IndexStatus:
    """Index every document of the catalogue.

    Args:
        toolenv_url: Base URL of the tool environment.
        retriever_url: Base URL of the retriever.

    Raises:
        ServiceError: A service cannot be reached, or refuses.
    """
    async with AsyncExitStack() as stack:
        toolenv, retriever = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
            for url in (toolenv_url, retriever_url)
        ]
        documents = await HttpToolEnv(toolenv).catalogue()
        return await HttpRetriever(retriever).index(tuple(documents))


def main() -> int:
    """Exit status 0 when an index is in force, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m infra.docker.build_index", description=__doc__)
    parser.add_argument("--toolenv-url", default="http://toolenv:8000", help="base URL")
    parser.add_argument("--retriever-url", default="http://retriever:8000", help="base URL")
    options = parser.parse_args()
    try:
        status = asyncio.run(
            build_index(toolenv_url=options.toolenv_url, retriever_url=options.retriever_url)
        )
    except ServiceError as exc:
        print(f"no index: {exc.code}: {exc.detail}", file=sys.stderr)  # noqa: T201
        return 1
    how = "built" if status.rebuilt else "reopened"
    print(f"index {status.version}: {status.n_documents} documents, {how}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
