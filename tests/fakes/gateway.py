"""The real gateway over a planner that plays written runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway.app import build_app
from gateway.backends import Backends
from gateway.settings import GatewaySettings
from services.contracts.apis import ApiDocument
from services.contracts.planner import Limits, PlanEvent, Planner, RunControl
from services.contracts.retriever import IndexStatus
from services.contracts.toolenv import ToolEnv
from tests.fakes import plan_runs
from tests.fakes.planner_ports import HELLO, FakeRetriever, FakeToolEnv

EXAMPLE = "In nautical miles, what is the distance between Dallas and Toronto?"
SCRIPTS = {
    EXAMPLE: plan_runs.dallas_to_toronto,
    "attack": plan_runs.hostile,
    "break": plan_runs.broken,
    "effort": plan_runs.best_effort,
    "nothing": plan_runs.fruitless,
    "order": plan_runs.order_placed,
    "sources": plan_runs.every_source,
    "say hello": plan_runs.toolbench_example,
}


def script_of(instruction: str) -> list[PlanEvent]:
    """The run written for an instruction; one that repeats the instruction for all others."""
    script = SCRIPTS.get(instruction)
    return script() if script else plan_runs.short(instruction)


class IndexedRetriever(FakeRetriever):
    """A retriever whose index is built."""

    async def index(self, documents: tuple[ApiDocument, ...]) -> IndexStatus:
        return IndexStatus(
            version="2", n_documents=len(documents), encoder="fake", rebuilt=True, seconds=0
        )

    async def status(self) -> IndexStatus | None:
        return IndexStatus(version="1", n_documents=1, encoder="fake", rebuilt=False, seconds=0)


def gateway_app(
    planner: Planner,
    *,
    max_runs: int = 64,
    origins: tuple[str, ...] = (),
    toolenv: ToolEnv | None = None,
    control: RunControl | None = None,
) -> FastAPI:
    settings = GatewaySettings(max_concurrent_runs=max_runs, allowed_origins=origins)

    @asynccontextmanager
    async def open_backends() -> AsyncIterator[Backends]:
        yield Backends(
            planner=planner,
            retriever=IndexedRetriever([HELLO]),
            toolenv=toolenv or FakeToolEnv(),
            limits=Limits(),
            max_concurrent_runs=max_runs,
            control=control,
        )

    return build_app(settings, open_backends)
