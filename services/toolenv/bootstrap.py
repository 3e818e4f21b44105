"""Builds the tool environment from its settings; the one place that chooses implementations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx
import structlog

from services.contracts.errors import FailedPrecondition, Unavailable
from services.kit.settings import SharedSettings
from services.toolenv.admission import Admission
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.chain import Chain
from services.toolenv.executors.base import Executor
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.executors.gated import GatedExecutor
from services.toolenv.executors.remote import RemoteExecutor
from services.toolenv.registry import Registry
from services.toolenv.sandbox import Sandbox, SandboxLimits, SandboxUnavailable, open_sandbox
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.status import ProbeStatus, SandboxStatus

log = structlog.get_logger()


@asynccontextmanager
async def open_toolenv(
    settings: ToolEnvSettings, shared: SharedSettings
) -> AsyncIterator[ToolEnvService]:
    """A running tool environment, closed at the end of the context.

    Raises:
        FailedPrecondition: A tools root cannot be read, or none holds an API.
        Unavailable: No safe sandbox can be opened here; the detail names the failed probe or step
            and its fix.
    """
    registry = await asyncio.to_thread(Registry, lambda: _load(settings))
    async with AsyncExitStack() as stack:
        executors: list[Executor] = []
        sandbox: Sandbox | None = None
        if "remote" in settings.sources:
            http = await stack.enter_async_context(_open_http(settings.remote_concurrency))
            executors.append(_gated(_remote(settings, http), settings.remote_concurrency, settings))
        if "custom" in settings.sources:
            sandbox = await _open_sandbox(settings, shared, stack)
            custom = CustomExecutor(sandbox, call_timeout_s=settings.call_timeout_s)
            executors.append(_gated(custom, settings.sandbox_concurrency, settings))
        yield ToolEnvService(
            registry=registry,
            chain=Chain(executors, order=settings.sources),
            admission=Admission(
                max_running=settings.max_calls, max_waiting=settings.max_waiting_calls
            ),
            sandbox_status=None if sandbox is None else partial(sandbox_status, sandbox),
        )


def _gated(executor: Executor, concurrency: int, settings: ToolEnvSettings) -> GatedExecutor:
    admission = Admission(max_running=concurrency, max_waiting=settings.max_waiting_calls)
    return GatedExecutor(executor, admission)


def _load(settings: ToolEnvSettings) -> Catalogue:
    catalogue = load_catalogue(settings.tools_roots)
    for refusal in catalogue.refusals:
        log.warning("tool_refused", file=refusal.file, field=refusal.field, reason=refusal.reason)
    if not len(catalogue):
        roots = ":".join(str(root) for root in settings.tools_roots)
        raise FailedPrecondition(
            f"no API is usable below {roots!r} ({len(catalogue.refusals)} files refused); "
            "set TOOLENV_TOOLS_ROOTS to folders laid out as <Category>/<tool>.json"
        )
    log.info("catalogue_loaded", apis=len(catalogue), refused=len(catalogue.refusals))
    return catalogue


async def _open_sandbox(
    settings: ToolEnvSettings, shared: SharedSettings, stack: AsyncExitStack
) -> Sandbox:
    try:
        return await stack.enter_async_context(
            open_sandbox(
                home=shared.toolwright_home / "sandbox",
                limits=SandboxLimits(max_concurrent_calls=settings.sandbox_concurrency),
                tier=settings.sandbox_tier,
                pool_size=settings.sandbox_pool_size,
            )
        )
    except SandboxUnavailable as exc:
        raise Unavailable(f"the sandbox refuses to start: {exc}") from exc


def _open_http(concurrency: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    return httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)


def _remote(settings: ToolEnvSettings, http: httpx.AsyncClient) -> RemoteExecutor:
    if settings.remote_url is None:
        raise FailedPrecondition("TOOLENV_SOURCES with 'remote' needs TOOLENV_REMOTE_URL")
    return RemoteExecutor(
        http,
        url=settings.remote_url,
        toolbench_key=settings.remote_key.get_secret_value() if settings.remote_key else "",
        call_timeout_s=settings.remote_timeout_s,
        codes_from_error_text=settings.compat == "toolbench",
    )


def sandbox_status(sandbox: Sandbox) -> SandboxStatus:
    """What the sandbox reports about itself now."""
    return SandboxStatus(
        tier=sandbox.tier,
        is_alive=sandbox.is_alive(),
        landlock_abi=sandbox.landlock_abi,
        probes=tuple(
            ProbeStatus(name=probe.name, is_passed=probe.is_passed, detail=probe.detail)
            for probe in sandbox.probe_results
        ),
    )
