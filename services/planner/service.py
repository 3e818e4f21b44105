"""`PlannerService`: the planner's ports over a model, a tool environment and a retriever."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from types import ModuleType

import structlog

from services.contracts.errors import FailedPrecondition, Internal, InvalidArgument, ServiceError
from services.contracts.ids import RunId
from services.contracts.llm import ChatModel
from services.contracts.planner import (
    ForkRequest,
    PlanEvent,
    RunEnded,
    RunSummary,
    SolveRequest,
)
from services.contracts.retriever import Retriever
from services.contracts.toolenv import ToolEnv
from services.kit.boundary import attribute_to
from services.planner.admission import FairQueue
from services.planner.approvals import Approvals
from services.planner.budget import Budget
from services.planner.ending import cancelled, failed
from services.planner.going import GoingRuns
from services.planner.journal.shelf import Shelf
from services.planner.journal.tape import Tape
from services.planner.run import Ports, Run, RunOptions
from services.planner.runs import (
    KeptRuns,
    Making,
    go,
    options_as_recorded,
    taped,
    taped_ports,
    taped_tools,
)
from services.planner.search.base import Emit
from services.planner.search.methods import Builder, builders, search_method
from services.planner.speculation import Allowance
from services.planner.telling import Tell
from services.planner.tracing import TracedModel, TracedRetriever, TracedToolEnv

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerOptions(RunOptions):
    """What the planner's operator decides, as opposed to a request."""

    max_runs: int = 64
    """Runs that work at a time; others wait."""
    max_waiting_runs: int = 256
    """Runs that may wait; one more is refused."""
    max_deadline_s: float = 3600.0
    """Cap on a run's wall clock, seconds."""
    searches: tuple[ModuleType, ...] = ()
    """Modules with further search methods, see `builders`."""


class PlannerService:
    """See `Planner`, `RunControl` and `RunKeeper`. Safe to call concurrently, on one event loop.

    The ports belong to the caller.
    """

    def __init__(
        self,
        *,
        model: ChatModel,
        toolenv: ToolEnv,
        retriever: Retriever | None,
        options: PlannerOptions | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """Bind the ports.

        Args:
            model: Proposes the steps.
            toolenv: Carries them out.
            retriever: Chooses APIs for requests that name none; `None` refuses such requests.
            options: The operator's decisions.
            shelf: Where runs are kept; `None` keeps none.
        """
        self._ports = Ports(
            model=TracedModel(model),
            toolenv=TracedToolEnv(toolenv),
            retriever=TracedRetriever(retriever) if retriever is not None else None,
        )
        self._options = options or PlannerOptions()
        self._allowance = Allowance()
        self._methods = builders(self._options.searches)
        self._keeper = (
            KeptRuns(shelf, make=self._run_of, guard=_guarded, options=self._options)
            if shelf is not None
            else None
        )
        self._approvals = Approvals()
        self._going = GoingRuns(
            FairQueue(max_runs=self._options.max_runs, max_waiting=self._options.max_waiting_runs)
        )

    @property
    def methods(self) -> Mapping[str, Builder]:
        """What builds each kind of search method."""
        return self._methods

    def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `Planner.solve`.

        Raises:
            ResourceExhausted: Too many runs wait already.
            FailedPrecondition: A run of the request's `run_id` is going on.
        """
        run_id = request.run_id or RunId(uuid.uuid4().hex)
        work = _Solving(self._run_of, request, run_id, self._keeper)
        return self._going.events(run_id, work, user=request.user)

    def _run_of(self, request: SolveRequest, run_id: RunId, tape: Tape | None = None) -> Run:
        """The run; its clock starts now."""
        options = self._options if tape is None else options_as_recorded(self._options, tape)
        run = Run(
            request=request,
            run_id=run_id,
            method=search_method(request.method, self._methods),
            budget=Budget(
                request.limits,
                max_deadline_s=options.max_deadline_s,
                clock=monotonic if tape is None else tape.clock,
                prices=options.prices,
                keeps_answer=not request.compat.no_answer_at_limits,
            ),
            ports=self._ports_of(request, tape),
            options=options,
            approvals=self._approvals,
        )
        return run if tape is None else taped(run, tape)

    def _ports_of(self, request: SolveRequest, tape: Tape | None) -> Ports:
        ports = self._ports if tape is None else taped_ports(self._ports, tape)
        if request.mode == "speculative":
            # Replies that were guessed are kept, for a resumed run that asks for them. Of
            # observations only those that were used are: what was read ahead may be out of date.
            ports = ports.speculating(self._allowance, request.limits)
        return ports if tape is None else taped_tools(ports, tape)

    async def cancel(self, run_id: RunId) -> None:
        """See `RunControl.cancel`."""
        self._going.cancel(run_id)

    async def decide(self, run_id: RunId, call_id: int, *, approve: bool) -> None:
        """See `RunControl.decide`."""
        self._approvals.decide(run_id, call_id, approve=approve)

    async def runs(self, *, limit: int = 100) -> list[RunSummary]:
        """See `RunKeeper.runs`."""
        return await self._kept().runs(limit=limit)

    async def events(self, run_id: RunId) -> list[PlanEvent]:
        """See `RunKeeper.events`."""
        return await self._kept().events(run_id)

    def replay(self, run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
        """See `RunKeeper.replay`; it asks nobody, and so it waits for no turn."""
        return self._kept().replay(run_id)

    def resume(self, run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
        """See `RunKeeper.resume`; it waits for its turn and can be cancelled, as a new run."""
        work = _Continuing(partial(self._kept().resume, run_id))
        return self._going.events(run_id, work, user=None)

    def fork(self, request: ForkRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `RunKeeper.fork`; it waits for its turn and can be cancelled, as a new run."""
        run_id = request.new_run_id or RunId(uuid.uuid4().hex)
        named = request.model_copy(update={"new_run_id": run_id})
        work = _Continuing(partial(self._kept().fork, named))
        return self._going.events(run_id, work, user=None)

    def _kept(self) -> KeptRuns:
        if self._keeper is None:
            raise FailedPrecondition("this planner keeps no runs; set PLANNER_KEEP_RUNS")
        return self._keeper


class _Solving:
    """See `Work`: a request's run."""

    def __init__(
        self, make: Making, request: SolveRequest, run_id: RunId, keeper: KeptRuns | None
    ) -> None:
        self._make, self._request, self._run_id, self._keeper = make, request, run_id, keeper
        self._run: Run | None = None

    def check(self) -> None:
        """See `Work.check`."""
        self._make(self._request, self._run_id)

    async def go(self, tell: Tell) -> None:
        """See `Work.go`."""
        tape = await self._keeper.begin(self._request, self._run_id) if self._keeper else None
        self._run = self._make(self._request, self._run_id, tape)
        await go(self._run, tell, tape=tape, guard=_guarded)

    def cancelled(self) -> RunEnded:
        """See `Work.cancelled`."""
        if self._run is None:
            return RunEnded(kind="cancelled", reason="it was cancelled while it waited")
        run = self._run
        return run.cancelled or run.noted(cancelled(run.budget, run_id=self._run_id))


class _Continuing:
    """See `Work`: a kept run that goes on."""

    def __init__(self, go: Callable[[Tell], Awaitable[None]]) -> None:
        self._go = go

    def check(self) -> None:
        """See `Work.check`; the keeper refuses with the first event."""

    async def go(self, tell: Tell) -> None:
        """See `Work.go`."""
        await self._go(tell)

    def cancelled(self) -> RunEnded:
        """See `Work.cancelled`."""
        return RunEnded(kind="cancelled", reason="the run was cancelled")


async def _guarded(run: Run, emit: Emit) -> None:
    """The run; a failing service ends it as an event instead of an exception."""
    try:
        async with attribute_to(Internal, "solve"):
            await run.go(emit)
    except InvalidArgument as exc:
        if run.space is None:
            raise
        await emit(_failed(run, exc))
    except ServiceError as exc:
        await emit(_failed(run, exc))


def _failed(run: Run, error: ServiceError) -> RunEnded:
    # Only a defect of ours needs its traceback; the others say where they come from.
    traced = error if isinstance(error, Internal) else None
    log.warning(
        "run_failed", run_id=run.run_id, code=error.code, detail=error.detail, exc_info=traced
    )
    return run.noted(failed(error, run.budget, run_id=run.run_id))
