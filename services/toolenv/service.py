"""The tool environment as a service: one catalogue, one chain of executors, bounded concurrency."""

import asyncio
import difflib
from collections.abc import Callable, Sequence

import structlog

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ServiceError,
    Unavailable,
)
from services.contracts.toolenv import (
    MAX_CALLS_TOGETHER,
    ApiHealth,
    CallResult,
    CallSource,
    CatalogueChange,
    Observation,
    OverflowPart,
    ToolCall,
    Trial,
)
from services.kit.boundary import attribute_to
from services.toolenv.admission import Admission
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.chain import Chain
from services.toolenv.endpoints import HttpEndpoint
from services.toolenv.executors.trials import TrialRunner
from services.toolenv.health import HealthBook
from services.toolenv.invocation import Invocation, prepare
from services.toolenv.overflow import OverflowStore
from services.toolenv.registry import Registry
from services.toolenv.status import SandboxStatus

log = structlog.get_logger()

# Comparing takes time quadratic in the lengths: these keep a hostile name below 50 ms.
_MAX_COMPARED = 300
_MAX_COMPARED_CHARS = 160


class ToolEnvService:
    """See `ToolEnv`."""

    def __init__(
        self,
        *,
        registry: Registry,
        chain: Chain,
        admission: Admission,
        sandbox_status: Callable[[], SandboxStatus] | None = None,
        health: HealthBook | None = None,
        has_credential: Callable[[str, ApiRef], bool] = lambda _name, _api: False,
        overflow: OverflowStore | None = None,
        trials: TrialRunner | None = None,
    ) -> None:
        """Build the service from its parts; whoever opened them closes them.

        Args:
            registry: APIs that can be called and described.
            chain: Runs the calls.
            admission: Bounds them.
            sandbox_status: State of the sandbox; `None` when no call needs one.
            health: Counts the calls; `None` counts none.
            has_credential: Whether a named credential is set for everybody's calls of an API.
            overflow: Holds answers that were too long to show; `None` keeps none.
            trials: Runs code that is no tool yet; `None` runs none.
        """
        self._registry = registry
        self._chain = chain
        self._admission = admission
        self._sandbox_status = sandbox_status
        self._health = health
        self._has_credential = has_credential
        self._overflow = overflow
        self._trials = trials

    async def check_ready(self) -> None:
        """Return when calls can run.

        Raises:
            Unavailable: The sandbox that they need is down.
        """
        if self._sandbox_status is not None and not self._sandbox_status().is_alive:
            raise Unavailable("the sandbox died and is being restarted; the log says why")

    def sandbox_status(self) -> SandboxStatus:
        """State of the sandbox.

        Raises:
            NotFound: This service executes no code of its own.
        """
        if self._sandbox_status is None:
            raise NotFound("this service runs without a sandbox: no source is `custom`")
        return self._sandbox_status()

    async def invoke(self, call: ToolCall) -> Observation:
        """See `ToolEnv.invoke`.

        Raises:
            NotFound: The catalogue has no such API; the detail names similar ones.
            ResourceExhausted: Too many calls wait already.
            DeadlineExceeded: The request's deadline passed before the call could begin.
        """
        entry = self._registry.current.get(call.api)
        if entry is None:
            ref = call.api
            held_back = self._registry.explain_missing(ref)
            raise NotFound(
                held_back
                or self.describe_missing(category=ref.category, tool=ref.tool, api=ref.api)
            )
        invocation = prepare(entry, call.arguments_text, user=call.user)
        return await self.execute(invocation, call.sources)

    def find(self, *, category_name: str, tool_name: str, api_name: str) -> CatalogueEntry | None:
        """The API of these names, see `Catalogue.find`."""
        return self._registry.current.find(
            category_name=category_name, tool_name=tool_name, api_name=api_name
        )

    def describe_missing(self, *, category: str, tool: str, api: str) -> str:
        """What to tell about an API that the catalogue lacks; names similar ones."""
        siblings = self._registry.current.refs_of_category(category)[:_MAX_COMPARED]
        asked = f"{category}/{tool}/{api}"[:_MAX_COMPARED_CHARS]
        near = difflib.get_close_matches(asked, [str(sibling) for sibling in siblings], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "the catalogue lists all addresses"
        return f"no API {asked!r} among {len(self._registry.current)}; {hint}"

    async def execute(
        self, invocation: Invocation, sources: Sequence[CallSource] | None = None
    ) -> Observation:
        """Execute a call that is prepared already; see `invoke`."""
        async with self._admission.enter():
            observation = await self._chain.execute(invocation, sources)
        if self._health is not None:
            self._health.observe(invocation, observation)
        # A line takes as long as finding a recording, and a replay has touched nothing outside.
        if observation.source != "replay":
            log.info(
                "call_finished",
                api=str(invocation.entry.document.ref),
                status=observation.status.value,
                source=observation.source,
                latency_s=round(observation.latency_s, 4),
            )
        return observation

    async def invoke_many(self, calls: Sequence[ToolCall]) -> list[CallResult]:
        """See `ToolEnv.invoke_many`."""
        if len(calls) > MAX_CALLS_TOGETHER:
            raise InvalidArgument(
                f"{len(calls)} calls in one request exceed the limit of {MAX_CALLS_TOGETHER}; "
                "send them in several"
            )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._result_of(call)) for call in calls]
        return [task.result() for task in tasks]

    async def _result_of(self, call: ToolCall) -> CallResult:
        """The call's own outcome, so that no failure cancels its siblings."""
        try:
            async with attribute_to(Internal, "invoke"):
                return CallResult(observation=await self.invoke(call))
        except ServiceError as exc:
            return CallResult(problem=exc.to_problem())

    async def try_code(self, trial: Trial) -> Observation:
        """See `ToolEnv.try_code`."""
        if self._trials is None:
            raise FailedPrecondition(
                "this tool environment runs no code: `custom` is not among TOOLENV_SOURCES"
            )
        async with self._admission.enter():
            return await self._trials.run(trial)

    async def health(self) -> list[ApiHealth]:
        """See `ToolEnv.health`."""
        if self._health is None:
            return []
        return await asyncio.to_thread(self._report, self._health)

    def _report(self, health: HealthBook) -> list[ApiHealth]:
        return health.report(self._lacking())

    def _lacking(self) -> list[tuple[ApiRef, tuple[str, ...]]]:
        """APIs that need credentials which are not set for everybody."""
        lacking = []
        for entry in self._registry.current.entries():
            ref, endpoint = entry.document.ref, entry.endpoint
            if isinstance(endpoint, HttpEndpoint) and not endpoint.is_auth_optional:
                names = tuple(
                    placement.credential
                    for placement in endpoint.auth
                    if not self._has_credential(placement.credential, ref)
                )
                lacking += [(ref, names)] if names else []
        return lacking

    async def read_overflow(
        self, ref: str, *, offset: int = 0, limit: int = 65_536
    ) -> OverflowPart:
        """See `ToolEnv.read_overflow`."""
        if self._overflow is None:
            raise NotFound(f"{ref[:100]!r}: this service keeps no long answers")
        return await asyncio.to_thread(self._overflow.read, ref, offset=offset, limit=limit)

    async def reload(self) -> CatalogueChange:
        """See `ToolEnv.reload`."""
        change = await self._registry.reload()
        log.info(
            "catalogue_reloaded",
            added=len(change.added),
            removed=len(change.removed),
            changed=len(change.changed),
        )
        return change

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """See `ToolEnv.describe`."""
        found = (self._registry.current.get(ref) for ref in refs)
        return [entry.document for entry in found if entry is not None]

    async def catalogue(self) -> list[ApiDocument]:
        """See `ToolEnv.catalogue`."""
        return self._registry.current.documents()
