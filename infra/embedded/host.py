"""Hosts every service in this process and joins them by direct calls."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from gateway.app import build_app as build_gateway
from gateway.backends import Backends
from gateway.bootstrap import limits_of
from gateway.settings import GatewaySettings
from infra.embedded.assets import bundled_tools, local_model
from infra.embedded.following import following
from infra.embedded.processes import celery_worker, private_redis
from infra.embedded.server import bind_port, serve_listener, serve_socket
from infra.embedded.settings import EmbeddedSettings
from services.contracts.llm import ChatModel
from services.contracts.retriever import Retriever
from services.contracts.toolenv import CallSource
from services.kit.app import create_app
from services.kit.settings import SharedSettings
from services.kit.telemetry import open_telemetry
from services.llm.bootstrap import open_llm
from services.llm.settings import LlmSettings
from services.planner.bootstrap import options_of, shelf_of
from services.planner.journal.shelf import Shelf
from services.planner.routes import router as planner_router
from services.planner.service import PlannerService
from services.planner.settings import PlannerSettings
from services.retriever.bootstrap import open_retriever
from services.retriever.settings import RetrieverSettings
from services.toolenv.bootstrap import build_wire, open_toolenv
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.wire import add_wire

_SOCKET_NAME = "planner.sock"
_MAX_RUNS = 256  # of gateway, worker and batch together; each of them has a lower limit of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What a command changes about the embedded system."""

    tools_root: Path | None = None
    """Tools tree; the bundled one when `None`."""
    toolenv_url: str | None = None
    """ToolBench backend that executes the calls instead of the sandbox."""
    sources: tuple[CallSource, ...] | None = None
    """Who answers tool calls, preferred first; the service's own order when `None`."""
    with_user_tools: bool = True
    """Serve the tools that users have added, next to those of the root."""
    runs: Shelf | None = None
    """Where runs are kept; the planner's own place when `None`."""
    with_retriever: bool = True
    """Closed-domain batches need none."""


@dataclass(frozen=True, slots=True)
class EmbeddedSystem:
    """The services of one process."""

    planner: PlannerService
    model: ChatModel
    toolenv: ToolEnvService
    retriever: Retriever | None
    shared: SharedSettings

    def backends(self, settings: GatewaySettings) -> Backends:
        """What the gateway talks to."""
        if self.retriever is None:
            raise ValueError("the gateway needs a retriever: open the system with one")
        return Backends(
            planner=self.planner,
            retriever=self.retriever,
            toolenv=self.toolenv,
            limits=limits_of(settings),
            max_concurrent_runs=settings.max_concurrent_runs,
            control=self.planner,
            keeper=self.planner,
        )


@asynccontextmanager
async def open_system(
    shared: SharedSettings, options: HostOptions | None = None
) -> AsyncIterator[EmbeddedSystem]:
    """Open model, sandbox and index side by side, and the planner over them."""
    options = options or HostOptions()
    async with AsyncExitStack() as stack:
        telemetry = open_telemetry(
            "toolwright",
            endpoint=shared.otel_exporter_otlp_endpoint,
            file=shared.toolwright_trace_file,
        )
        stack.enter_context(telemetry)
        model = await stack.enter_async_context(open_llm(_llm_settings(shared), shared))
        settings = _toolenv_settings(options)
        toolenv = await stack.enter_async_context(open_toolenv(settings, shared, model=model))
        retriever: Retriever | None = None
        if options.with_retriever:
            retriever = await stack.enter_async_context(open_retriever(RetrieverSettings(), shared))
            documents = tuple(await toolenv.catalogue())
            await retriever.index(documents)
            if settings.watch_s:
                await stack.enter_async_context(
                    following(retriever, toolenv, documents, period_s=settings.watch_s)
                )
        planner = PlannerService(
            model=model,
            toolenv=toolenv,
            retriever=retriever,
            options=options_of(PlannerSettings(), shared),
            shelf=options.runs or shelf_of(PlannerSettings(), shared),
        )
        yield EmbeddedSystem(planner, model, toolenv, retriever, shared)


def _toolenv_settings(options: HostOptions) -> ToolEnvSettings:
    """The service's own settings, with what the command changes about them."""
    changed: dict[str, object] = {"tools_roots": (_tools_root(options),)}
    if options.toolenv_url is not None:
        changed |= {"remote_url": options.toolenv_url, "compat": "toolbench"}
        changed |= {"sources": ("remote",)}
    if options.sources is not None:
        changed["sources"] = options.sources
    if not options.with_user_tools:
        changed["user_tools"] = False
    return ToolEnvSettings.model_validate(changed)


def _tools_root(options: HostOptions) -> Path:
    return options.tools_root or EmbeddedSettings().tools_root or bundled_tools()


def _llm_settings(shared: SharedSettings) -> LlmSettings:
    if shared.llm_base_url is not None:
        return LlmSettings()
    return LlmSettings(model_path=local_model(), threads=EmbeddedSettings().model_threads)


@asynccontextmanager
async def serve_temporarily() -> AsyncIterator[Path]:
    """Serve the gateway on a unix socket of this command's own, and yield its path."""
    async with open_system(SharedSettings()) as system:
        with tempfile.TemporaryDirectory(prefix="toolwright-") as folder:
            socket = Path(folder) / "gateway.sock"
            async with serve_socket(_gateway(system), socket):
                yield socket


@asynccontextmanager
async def serve(*, host: str, port: int, with_worker: bool) -> AsyncIterator[str]:
    """Serve the whole system and yield the gateway's URL when it is ready."""
    listener = bind_port(host, port)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        system = await stack.enter_async_context(open_system(SharedSettings()))
        if with_worker:
            await stack.enter_async_context(open_queue(system))
        await stack.enter_async_context(serve_listener(_gateway(system), listener))
        yield f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _gateway(system: EmbeddedSystem) -> FastAPI:
    settings = GatewaySettings()

    @asynccontextmanager
    async def open_backends() -> AsyncIterator[Backends]:
        yield system.backends(settings)

    app = build_gateway(settings, open_backends)
    # The reference's own client finds its tool server here; one process needs no second port.
    add_wire(app, build_wire(ToolEnvSettings(), lambda _: system.toolenv))
    return app


@asynccontextmanager
async def open_queue(system: EmbeddedSystem) -> AsyncIterator[str]:
    """Run Redis and the evaluation worker for a system, and yield the broker's URL."""
    home = system.shared.toolwright_home

    @asynccontextmanager
    async def planner() -> AsyncIterator[PlannerService]:
        yield system.planner

    app = create_app(title="planner", routers=(planner_router,), open_service=planner)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toolwright-")))
        socket = folder / _SOCKET_NAME
        await stack.enter_async_context(serve_socket(app, socket))
        redis_url = await stack.enter_async_context(private_redis(home / "redis"))
        await stack.enter_async_context(
            celery_worker(
                home=home,
                redis_url=redis_url,
                planner_socket=socket,
                concurrency=EmbeddedSettings().worker_concurrency,
            )
        )
        yield redis_url
