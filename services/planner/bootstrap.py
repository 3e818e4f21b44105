"""Builds the planner from its settings; the one place that chooses implementations."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from services.contracts.clients.llm import HttpChatModel
from services.contracts.clients.retriever import HttpRetriever
from services.contracts.clients.toolenv import HttpToolEnv
from services.kit.settings import SharedSettings
from services.planner.prompts.library import PromptLibrary
from services.planner.service import PlannerOptions, PlannerService
from services.planner.settings import PlannerSettings


@asynccontextmanager
async def open_planner(
    settings: PlannerSettings, shared: SharedSettings
) -> AsyncIterator[PlannerService]:
    """A planner over the other services' HTTP ports, closed at the end of the context."""
    async with AsyncExitStack() as stack:

        async def client(url: str) -> httpx.AsyncClient:
            limits = httpx.Limits(
                max_connections=settings.connections,
                max_keepalive_connections=settings.connections,
            )
            return await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, limits=limits, trust_env=False)
            )

        yield PlannerService(
            model=HttpChatModel(await client(settings.llm_url)),
            toolenv=HttpToolEnv(await client(settings.toolenv_url)),
            retriever=(
                HttpRetriever(await client(settings.retriever_url))
                if settings.retriever_url
                else None
            ),
            options=options_of(settings, shared),
        )


def options_of(settings: PlannerSettings, shared: SharedSettings) -> PlannerOptions:
    """The operator's decisions, as the engine takes them."""
    return PlannerOptions(
        max_reply_tokens=settings.max_reply_tokens,
        temperature=settings.temperature,
        stream_model=settings.stream_model,
        prompts=PromptLibrary(shared.toolwright_home / "prompts"),
        max_runs=settings.max_runs,
        max_deadline_s=settings.max_deadline_s,
    )
