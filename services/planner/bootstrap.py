"""Builds the planner from its settings; the one place that chooses implementations."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from services.contracts.clients.connections import service_client
from services.contracts.clients.llm import HttpChatModel
from services.contracts.clients.retriever import HttpRetriever
from services.contracts.clients.toolenv import HttpToolEnv
from services.kit.settings import SharedSettings
from services.planner.budget import Prices
from services.planner.journal.shelf import Shelf
from services.planner.prompts.library import PromptLibrary
from services.planner.search.added import load_searches
from services.planner.service import PlannerOptions, PlannerService
from services.planner.settings import PlannerSettings


@asynccontextmanager
async def open_planner(
    settings: PlannerSettings, shared: SharedSettings
) -> AsyncIterator[PlannerService]:
    """A planner over the other services' HTTP ports, closed at the end of the context."""
    async with AsyncExitStack() as stack:

        async def client(url: str) -> httpx.AsyncClient:
            return await stack.enter_async_context(
                service_client(url, connections=settings.connections)
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
            shelf=shelf_of(settings, shared),
        )


def shelf_of(settings: PlannerSettings, shared: SharedSettings) -> Shelf | None:
    """Where runs are kept; `None` when none are."""
    if settings.keep_runs == 0:
        return None
    return Shelf(
        shared.toolwright_home / "runs",
        keep_runs=settings.keep_runs,
        keep_bytes=settings.keep_runs_bytes,
    )


@asynccontextmanager
async def open_records(shelf: Shelf, shared: SharedSettings) -> AsyncIterator[PlannerService]:
    """A planner that only looks at kept runs and replays them; it has nobody to ask."""
    async with httpx.AsyncClient() as nobody:
        yield PlannerService(
            model=HttpChatModel(nobody),
            toolenv=HttpToolEnv(nobody),
            retriever=None,
            options=options_of(PlannerSettings(), shared),
            shelf=shelf,
        )


def options_of(settings: PlannerSettings, shared: SharedSettings) -> PlannerOptions:
    """The operator's decisions, as the engine takes them.

    Raises:
        FailedPrecondition: See `load_searches`.
    """
    return PlannerOptions(
        max_reply_tokens=settings.max_reply_tokens,
        temperature=settings.temperature,
        stream_model=settings.stream_model,
        approval_timeout_s=settings.approval_timeout_s,
        prices=prices_of(settings),
        prompts=PromptLibrary(shared.toolwright_home / "prompts"),
        max_runs=settings.max_runs,
        max_waiting_runs=settings.max_waiting_runs,
        max_deadline_s=settings.max_deadline_s,
        searches=load_searches(settings.searches),
    )


def prices_of(settings: PlannerSettings) -> Prices | None:
    """The price list, `None` when there is none; a single price leaves the other tokens free."""
    prompt = settings.usd_per_million_prompt_tokens
    completion = settings.usd_per_million_completion_tokens
    if prompt is None and completion is None:
        return None
    return Prices(prompt or 0.0, completion or 0.0)
