"""Chooses the evaluator's planner and its result store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from services.contracts.clients.planner import HttpPlanner
from services.evaluator.results import ResultStore
from services.evaluator.service import EvaluatorService
from services.evaluator.settings import EvaluatorSettings
from services.kit.settings import SharedSettings


def open_results(shared: SharedSettings) -> ResultStore:
    """The store under the home folder."""
    return ResultStore(shared.toolwright_home / "results")


@asynccontextmanager
async def open_evaluator(
    settings: EvaluatorSettings, shared: SharedSettings
) -> AsyncIterator[EvaluatorService]:
    """Connect to the planner, by URL or by unix socket."""
    socket = settings.planner_socket
    transport = httpx.AsyncHTTPTransport(uds=str(socket)) if socket else None
    base_url = "http://planner" if socket else settings.planner_url
    async with httpx.AsyncClient(base_url=base_url, transport=transport, trust_env=False) as http:
        yield EvaluatorService(planner=HttpPlanner(http), results=open_results(shared))
