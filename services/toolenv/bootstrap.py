"""Builds the tool environment from its settings; the one place that chooses implementations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import httpx
import structlog

from services.contracts.errors import FailedPrecondition, Unavailable
from services.kit.settings import SharedSettings
from services.toolenv.admission import Admission
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.chain import Chain, ExecutorName
from services.toolenv.executors.base import Executor
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.executors.remote import RemoteExecutor
from services.toolenv.sandbox import Sandbox, SandboxLimits, SandboxUnavailable, open_sandbox
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.status import ProbeStatus, SandboxStatus

log = structlog.get_logger()


class _Execution(NamedTuple):
    executor: Executor
    concurrency: int
    sandbox: Sandbox | None


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
    catalogue = await asyncio.to_thread(_load, settings)
    async with AsyncExitStack() as stack:
        execution = await _open_execution(settings, shared, stack)
        sandbox = execution.sandbox
        yield ToolEnvService(
            catalogue=catalogue,
            executor=Chain([execution.executor]),
            admission=Admission(
                max_running=execution.concurrency, max_waiting=settings.max_waiting_calls
            ),
            sandbox_status=None if sandbox is None else lambda: sandbox_status(sandbox),
        )


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


async def _open_execution(
    settings: ToolEnvSettings, shared: SharedSettings, stack: AsyncExitStack
) -> _Execution:
    if settings.executor is ExecutorName.REMOTE:
        http = await stack.enter_async_context(_open_http(settings.remote_concurrency))
        return _Execution(_remote(settings, http), settings.remote_concurrency, None)
    try:
        sandbox = await stack.enter_async_context(
            open_sandbox(
                home=shared.toolwright_home / "sandbox",
                limits=SandboxLimits(max_concurrent_calls=settings.sandbox_concurrency),
                tier=settings.sandbox_tier,
                pool_size=settings.sandbox_pool_size,
            )
        )
    except SandboxUnavailable as exc:
        raise Unavailable(f"the sandbox refuses to start: {exc}") from exc
    executor = CustomExecutor(sandbox, call_timeout_s=settings.call_timeout_s)
    return _Execution(executor, settings.sandbox_concurrency, sandbox)


def _open_http(concurrency: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    return httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)


def _remote(settings: ToolEnvSettings, http: httpx.AsyncClient) -> RemoteExecutor:
    if settings.remote_url is None:
        raise FailedPrecondition("TOOLENV_EXECUTOR=remote needs TOOLENV_REMOTE_URL")
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
