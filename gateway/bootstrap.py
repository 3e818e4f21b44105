"""Chooses the gateway's backends: HTTP clients of the services its settings name."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from gateway.backends import Backends
from gateway.settings import GatewaySettings
from services.contracts.clients.planner import HttpPlanner
from services.contracts.clients.retriever import HttpRetriever
from services.contracts.clients.toolenv import HttpToolEnv
from services.contracts.planner import Limits

# A run holds a connection while it lasts; `max_concurrent_runs` bounds them, with a clear refusal.
_UNBOUNDED = httpx.Limits(max_connections=None, max_keepalive_connections=64)


def limits_of(settings: GatewaySettings) -> Limits:
    """Budgets of every run that comes in from outside."""
    return Limits(
        max_depth=settings.max_depth,
        max_llm_calls=settings.max_llm_calls,
        deadline_s=settings.run_deadline_s,
    )


@asynccontextmanager
async def open_backends(settings: GatewaySettings) -> AsyncIterator[Backends]:
    """Connect to the services."""
    async with AsyncExitStack() as stack:
        planner, retriever, toolenv = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, limits=_UNBOUNDED, trust_env=False)
            )
            for url in (settings.planner_url, settings.retriever_url, settings.toolenv_url)
        ]
        runs = HttpPlanner(planner)
        yield Backends(
            planner=runs,
            retriever=HttpRetriever(retriever),
            toolenv=HttpToolEnv(toolenv),
            limits=limits_of(settings),
            max_concurrent_runs=settings.max_concurrent_runs,
            control=runs,
            keeper=runs,
        )
