"""The tool environment as a service: one catalogue, one way to execute, bounded concurrency."""

import difflib
from collections.abc import Callable, Sequence

import structlog

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import NotFound, Unavailable
from services.contracts.toolenv import Observation, ToolCall
from services.toolenv.admission import Admission
from services.toolenv.catalog import Catalogue
from services.toolenv.executors.base import Executor
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
        catalogue: Catalogue,
        executor: Executor,
        admission: Admission,
        sandbox_status: Callable[[], SandboxStatus] | None = None,
    ) -> None:
        """Build the service from its parts; whoever opened them closes them.

        Args:
            catalogue: APIs that can be called and described.
            executor: Runs the calls.
            admission: Bounds them.
            sandbox_status: State of the sandbox; `None` when no call needs one.
        """
        self._catalogue = catalogue
        self._executor = executor
        self._admission = admission
        self._sandbox_status = sandbox_status

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
            raise NotFound("this service runs without a sandbox: TOOLENV_EXECUTOR=remote")
        return self._sandbox_status()

    async def invoke(self, call: ToolCall) -> Observation:
        """See `ToolEnv.invoke`.

        Raises:
            NotFound: The catalogue has no such API; the detail names similar ones.
            ResourceExhausted: Too many calls wait already.
            DeadlineExceeded: The request's deadline passed before the call could begin.
        """
        entry = self._catalogue.get(call.api)
        if entry is None:
            raise NotFound(self._describe_missing(call.api))
        async with self._admission.enter():
            observation = await self._executor.execute(entry, call.arguments_text)
        log.info(
            "call_finished",
            api=str(call.api),
            status=observation.status.value,
            source=observation.source,
            latency_s=round(observation.latency_s, 4),
        )
        return observation

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        """See `ToolEnv.describe`."""
        found = (self._catalogue.get(ref) for ref in refs)
        return [entry.document for entry in found if entry is not None]

    async def catalogue(self) -> list[ApiDocument]:
        """See `ToolEnv.catalogue`."""
        return self._catalogue.documents()

    def _describe_missing(self, ref: ApiRef) -> str:
        siblings = self._catalogue.refs_of_category(ref.category)[:_MAX_COMPARED]
        asked = str(ref)[:_MAX_COMPARED_CHARS]
        near = difflib.get_close_matches(asked, [str(sibling) for sibling in siblings], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "the catalogue lists all addresses"
        return f"no API {asked!r} among {len(self._catalogue)}; {hint}"
