"""Builds the tool environment from its settings; the one place that chooses implementations."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import structlog
from pydantic import SecretStr
from starlette.requests import Request

from services.contracts.apis import ApiRef
from services.contracts.clients.llm import HttpChatModel
from services.contracts.errors import FailedPrecondition, Unavailable
from services.contracts.llm import ChatModel
from services.contracts.toolenv import CallSource
from services.kit.settings import SharedSettings
from services.toolenv.admission import Admission
from services.toolenv.cassettes.errors import StoreReadOnly
from services.toolenv.cassettes.snapshot import Snapshot as Cassettes
from services.toolenv.cassettes.snapshot import default_folder, open_snapshot
from services.toolenv.cassettes.store import Store, default_path
from services.toolenv.catalog import Catalogue, CatalogueEntry
from services.toolenv.chain import Chain
from services.toolenv.compression import load_response_schemas
from services.toolenv.credentials import CredentialStore
from services.toolenv.effects import EFFECTS_FILE, EffectBook
from services.toolenv.egress.policy import EgressPolicy, policy_for
from services.toolenv.egress.targets import is_in_clear
from services.toolenv.egress.transport import EgressLimits, GuardedTransport, NameService, trusting
from services.toolenv.endpoints import HttpEndpoint, McpEndpoint
from services.toolenv.executors.base import Executor
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.executors.gated import GatedExecutor
from services.toolenv.executors.http import HttpCaller, HttpLimits
from services.toolenv.executors.live import LiveExecutor
from services.toolenv.executors.mcp import McpCaller
from services.toolenv.executors.providers import ProviderLimits, Providers
from services.toolenv.executors.remote import RemoteExecutor
from services.toolenv.executors.replay import CassetteRecorder, ReplayExecutor
from services.toolenv.executors.simulated import SimulatedExecutor
from services.toolenv.executors.simulation import OWN_PROFILE, load_profile
from services.toolenv.executors.simulation_examples import RecordedExamples
from services.toolenv.executors.trials import TrialRunner
from services.toolenv.health import HealthBook, saving
from services.toolenv.invocation import Invocation
from services.toolenv.mcp_servers import Definitions, McpServers
from services.toolenv.overflow import OverflowStore
from services.toolenv.pins import Pins
from services.toolenv.registry import Registry, Snapshot, load_pinned, watching
from services.toolenv.sandbox import (
    BrokerOptions,
    Sandbox,
    SandboxLimits,
    SandboxUnavailable,
    open_sandbox,
)
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.status import ProbeStatus, SandboxStatus
from services.toolenv.wire import WireRouter, wire_router

log = structlog.get_logger()

_FLUSH_S = 10.0  # counts of calls that a crash may lose
_LLM_TIMEOUT_S = 120.0
_MCP_STREAM_S = 300.0  # a server announces changes over a stream that stays open
_MAX_RESPONSE_BYTES = 64 << 20  # above what a call keeps, so that its head can be shown


@asynccontextmanager
async def open_toolenv(
    settings: ToolEnvSettings, shared: SharedSettings, *, model: ChatModel | None = None
) -> AsyncIterator[ToolEnvService]:
    """A running tool environment, closed at the end of the context.

    Args:
        settings: What is set for this service.
        shared: Where files live.
        model: Plays APIs for `simulated`; without one `settings.llm_url` names a service.

    Raises:
        FailedPrecondition: A tools root cannot be read, none holds an API, or a part that the
            settings name cannot be used.
        Unavailable: No safe sandbox can be opened here; the detail names the failed probe or step
            and its fix.
    """
    async with AsyncExitStack() as stack:
        workshop = _Workshop(settings, shared, model, stack)
        registry = await workshop.open_registry()
        health = await workshop.open_health()
        chain, sandbox = await workshop.open_chain()
        yield ToolEnvService(
            registry=registry,
            chain=chain,
            admission=Admission(
                max_running=settings.max_calls, max_waiting=settings.max_waiting_calls
            ),
            sandbox_status=None if sandbox is None else partial(sandbox_status, sandbox),
            health=health,
            has_credential=workshop.has_credential,
            overflow=workshop.overflow,
            trials=None
            if sandbox is None
            else TrialRunner(sandbox, call_timeout_s=settings.call_timeout_s),
        )


@asynccontextmanager
async def open_trials(
    settings: ToolEnvSettings, shared: SharedSettings
) -> AsyncIterator[TrialRunner]:
    """What tries code, over a sandbox of its own and without any tool.

    Raises:
        Unavailable: See `open_toolenv`.
    """
    async with AsyncExitStack() as stack:
        sandbox = await _Workshop(settings, shared, None, stack).open_sandbox()
        yield TrialRunner(sandbox, call_timeout_s=settings.call_timeout_s)


def build_wire(
    settings: ToolEnvSettings, service_of: Callable[[Request], ToolEnvService]
) -> WireRouter:
    """ToolBench's routes over a service; blocking file access where schemas are set."""
    schemas = None
    if settings.response_examples is not None:
        schemas = load_response_schemas(settings.response_examples)
        for refusal in schemas.refusals:
            log.warning("schema_refused", file=refusal.file, reason=refusal.reason)
    return wire_router(
        service_of,
        schemas=schemas,
        seed=settings.compression_seed,
        classifies_as_reference=settings.compat == "toolbench",
    )


class _Workshop:
    """Opens the parts one by one; the stack closes them in reverse order."""

    def __init__(
        self,
        settings: ToolEnvSettings,
        shared: SharedSettings,
        model: ChatModel | None,
        stack: AsyncExitStack,
    ) -> None:
        self._settings = settings
        self._home = shared.toolwright_home
        self._own = shared.toolwright_home / "toolenv"
        self._model = model
        self._stack = stack
        self._user_root = settings.user_root or shared.toolwright_home / "tools"
        self._credentials = CredentialStore(self._own, key=settings.read_credentials_key())
        self.overflow = OverflowStore(self._own / "overflow")

    def has_credential(self, name: str, api: ApiRef) -> bool:
        """Whether everybody's calls of an API have a secret of this name."""
        return self._credentials.lookup(name, api=api) is not None

    def _is_personal(self, invocation: Invocation) -> bool:
        ref = invocation.entry.document.ref
        return self._credentials.has_own(invocation.user, api=ref)

    # Catalogue and health

    async def open_registry(self) -> Registry:
        """The catalogue of every root, watched if that is set."""
        settings = self._settings
        roots = [self._user_root] if settings.user_tools else []
        for root in roots:
            await asyncio.to_thread(_make_folder, root)
        pins = Pins(self._own) if settings.pin_tools else None
        load = partial(
            load_pinned,
            trusted_roots=settings.tools_roots,
            roots=roots,
            pins=pins,
            effects=EffectBook(self._user_root),
        )
        registry = await asyncio.to_thread(Registry, lambda: _logged(load()))
        if not len(registry.current):
            below = ":".join(str(root) for root in (*settings.tools_roots, *roots))
            raise FailedPrecondition(
                f"no API is usable below {below!r} ({len(registry.current.refusals)} files "
                "refused); set TOOLENV_TOOLS_ROOTS to folders laid out as <Category>/<tool>.json"
            )
        log.info("catalogue_loaded", apis=len(registry.current))
        if settings.watch_s:
            effects = self._user_root / EFFECTS_FILE
            paths = [*settings.tools_roots, *roots, self._own / "pins.json", effects]
            await self._stack.enter_async_context(
                watching(registry, paths, period_s=settings.watch_s)
            )
        return registry

    async def open_health(self) -> HealthBook:
        """The counts of calls, saved now and then and at the end."""
        book = HealthBook(self._own / "health.db")
        await self._stack.enter_async_context(saving(book, period_s=_FLUSH_S))
        return book

    # Executors

    async def open_chain(self) -> tuple[Chain, Sandbox | None]:
        """Every source that a call may name, and the sandbox if one of them needs it."""
        opened = self._settings.opened_sources
        executors: list[Executor] = []
        sandbox: Sandbox | None = None
        store = await self._open_store() if self._needs_store(opened) else None
        if "replay" in opened:
            executors.append(await self._replay(store))
        if "live" in opened:
            executors.append(await self._live())
        if "remote" in opened:
            executors.append(await self._remote())
        if "custom" in opened:
            sandbox = await self.open_sandbox()
            executors.append(self._custom(sandbox))
        if "simulated" in opened:
            executors.append(await self._simulated(store))
        recorder = None
        if store is not None and self._settings.record_sources:
            recorder = CassetteRecorder(
                store,
                sources=self._settings.record_sources,
                timeout_s=self._settings.record_timeout_s,
                is_personal=self._is_personal,
            )
        return Chain(executors, order=self._settings.sources, recorder=recorder), sandbox

    def _needs_store(self, opened: frozenset[CallSource]) -> bool:
        return bool({"replay", "simulated"} & opened) or bool(self._settings.record_sources)

    async def _open_store(self) -> Store | None:
        """The record; `None` where nothing can be written and snapshots alone are to answer."""
        durability = self._settings.cassette_durability
        try:
            store = await asyncio.to_thread(Store, default_path(self._home), durability=durability)
        except StoreReadOnly:
            if self._settings.record_sources or not self._settings.snapshots:
                raise
            return None
        self._stack.push_async_callback(asyncio.to_thread, store.close)
        return store

    async def _replay(self, store: Store | None) -> Executor:
        shelves: list[Cassettes | Store] = []
        for reference in self._settings.snapshots:
            snapshot = await asyncio.to_thread(
                open_snapshot,
                reference,
                default_folder(self._home),
                verify=self._settings.verify_snapshots,
            )
            self._stack.callback(snapshot.close)
            shelves.append(snapshot)
        if store is not None:
            shelves.append(store)
        return ReplayExecutor(shelves, misses=store)

    async def _live(self) -> Executor:
        settings = self._settings
        providers = Providers(
            ProviderLimits(
                concurrency=settings.live_concurrency,
                max_waiting=settings.max_waiting_calls,
                rate_per_s=settings.live_rate_per_s,
                burst=settings.live_burst,
            )
        )
        http = HttpCaller(
            await self._open_transport(settings.live_timeout_s),
            credentials=self._credentials,
            providers=providers,
            limits=HttpLimits(call_timeout_s=settings.live_timeout_s),
            clear_hosts=settings.allow_private,
            keep=self.overflow.put,
        )
        servers = McpServers(
            Definitions(self._user_root),
            transport=await self._open_transport(_MCP_STREAM_S),
            lookup=self._credentials.lookup,
            hidden=[self._home],
        )
        await self._stack.enter_async_context(servers)
        mcp = McpCaller(servers, call_timeout_s=settings.live_timeout_s)
        return LiveExecutor({HttpEndpoint: http, McpEndpoint: mcp})

    async def _open_transport(self, total_s: float) -> GuardedTransport:
        """Connections to the outside, to checked addresses only."""
        names = NameService(allow_private=self._settings.allow_private)
        transport = GuardedTransport(
            names=names,
            limits=EgressLimits(total_s=total_s, response_bytes=_MAX_RESPONSE_BYTES),
            ssl_context=trusting(self._settings.ca_file),
        )
        return await self._stack.enter_async_context(transport)

    async def _remote(self) -> Executor:
        settings = self._settings
        if settings.remote_url is None:
            raise FailedPrecondition("TOOLENV_SOURCES with 'remote' needs TOOLENV_REMOTE_URL")
        n = settings.remote_concurrency
        limits = httpx.Limits(max_connections=n, max_keepalive_connections=n)
        # The operator names this one host, so it may be a private one.
        http = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)
        await self._stack.enter_async_context(http)
        executor = RemoteExecutor(
            http,
            url=settings.remote_url,
            toolbench_key=settings.remote_key.get_secret_value() if settings.remote_key else "",
            call_timeout_s=settings.remote_timeout_s,
            codes_from_error_text=settings.compat == "toolbench",
            keep=self.overflow.put,
        )
        return self._gated(executor, n)

    async def open_sandbox(self) -> Sandbox:
        settings = self._settings
        try:
            return await self._stack.enter_async_context(
                open_sandbox(
                    home=self._home / "sandbox",
                    limits=SandboxLimits(max_concurrent_calls=settings.sandbox_concurrency),
                    tier=settings.sandbox_tier,
                    pool_size=settings.sandbox_pool_size,
                    zygotes=settings.sandbox_zygotes,
                    broker=BrokerOptions(
                        allow_private=settings.allow_private, ca_file=settings.ca_file
                    ),
                )
            )
        except SandboxUnavailable as exc:
            raise Unavailable(f"the sandbox refuses to start: {exc}") from exc

    def _custom(self, sandbox: Sandbox) -> Executor:
        executor = CustomExecutor(
            sandbox,
            call_timeout_s=self._settings.call_timeout_s,
            egress_of=self._egress_of,
            keep=self.overflow.put,
        )
        return self._gated(executor, self._settings.sandbox_concurrency)

    def _egress_of(self, entry: CatalogueEntry, user: str | None) -> EgressPolicy | None:
        """The network of one call of a tool's code: the hosts that its document names."""
        ref, endpoint = entry.document.ref, entry.endpoint
        endpoints = [endpoint] if isinstance(endpoint, HttpEndpoint) else []
        if endpoints and is_in_clear(endpoints[0].url, self._settings.allow_private):
            endpoints = [replace(endpoints[0], auth=())]  # no secret goes without encryption
        if not (endpoints or entry.hosts):
            return None

        def secret_of(name: str) -> SecretStr | None:
            return self._credentials.lookup(name, user=user, api=ref)

        return policy_for(
            f"{ref.category}/{ref.tool}", endpoints, lookup=secret_of, extra_hosts=entry.hosts
        )

    async def _simulated(self, store: Store | None) -> Executor:
        path = self._settings.simulator_prompt
        executor = SimulatedExecutor(
            self._model or await self._open_model(),
            profile=OWN_PROFILE if path is None else await asyncio.to_thread(load_profile, path),
            examples=None if store is None else RecordedExamples(store),
        )
        return self._gated(executor, self._settings.simulator_concurrency)

    async def _open_model(self) -> ChatModel:
        if self._settings.llm_url is None:
            raise FailedPrecondition("TOOLENV_SOURCES with 'simulated' needs TOOLENV_LLM_URL")
        http = httpx.AsyncClient(
            base_url=self._settings.llm_url, trust_env=False, timeout=_LLM_TIMEOUT_S
        )
        return HttpChatModel(await self._stack.enter_async_context(http))

    def _gated(self, executor: Executor, concurrency: int) -> GatedExecutor:
        waiting = self._settings.max_waiting_calls
        return GatedExecutor(executor, Admission(max_running=concurrency, max_waiting=waiting))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise FailedPrecondition(
            f"the folder of users' tools {str(folder)!r} cannot be made: {exc.strerror}; choose a "
            "TOOLENV_USER_ROOT that can be written, or set TOOLENV_USER_TOOLS=false"
        ) from exc


def _logged(snapshot: Snapshot) -> Snapshot:
    """Log what is not offered."""
    catalogue: Catalogue = snapshot.catalogue
    for refusal in catalogue.refusals:
        log.warning("tool_refused", file=refusal.file, field=refusal.field, reason=refusal.reason)
    return snapshot


def sandbox_status(sandbox: Sandbox) -> SandboxStatus:
    """What the sandbox reports about itself now."""
    return SandboxStatus(
        tier=sandbox.tier,
        is_alive=sandbox.is_alive(),
        landlock_abi=sandbox.landlock_abi,
        cgroup_mode=sandbox.cgroup_mode,
        groups=sandbox.groups,
        probes=tuple(
            ProbeStatus(name=probe.name, is_passed=probe.is_passed, detail=probe.detail)
            for probe in sandbox.probe_results
        ),
    )
