"""`PlannerService`: the `Planner` port over a model, a tool environment and a retriever."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import structlog

from services.contracts.errors import Internal, InvalidArgument, ResourceExhausted, ServiceError
from services.contracts.ids import RunId
from services.contracts.llm import ChatModel
from services.contracts.planner import PlanEvent, RunEnded, SolveRequest
from services.contracts.retriever import Retriever
from services.contracts.toolenv import ToolEnv
from services.kit.boundary import attribute_to
from services.kit.channel import reported
from services.planner.budget import Budget
from services.planner.ending import failed
from services.planner.run import Ports, Run, RunOptions
from services.planner.search.base import Emit
from services.planner.search.methods import builders, search_method

log = structlog.get_logger()
_MAX_UNREAD_EVENTS = 16  # a reader that falls behind holds the search back


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerOptions(RunOptions):
    """What the planner's operator decides, as opposed to a request."""

    max_runs: int = 64
    """Runs at a time; one more is refused, not queued."""
    max_deadline_s: float = 3600.0
    """Cap on a run's wall clock, seconds."""


class PlannerService:
    """See `Planner`. Safe to call concurrently; the ports belong to the caller."""

    def __init__(
        self,
        *,
        model: ChatModel,
        toolenv: ToolEnv,
        retriever: Retriever | None,
        options: PlannerOptions | None = None,
    ) -> None:
        """Bind the ports.

        Args:
            model: Proposes the steps.
            toolenv: Carries them out.
            retriever: Chooses APIs for requests that name none; `None` refuses such requests.
            options: The operator's decisions.
        """
        self._ports = Ports(model=model, toolenv=toolenv, retriever=retriever)
        self._options = options or PlannerOptions()
        self._methods = builders()
        self._running = 0

    async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `Planner.solve`."""
        method = search_method(request.method, self._methods)
        if self._running >= self._options.max_runs:
            raise ResourceExhausted(
                f"{self._running} runs are in progress, the limit is {self._options.max_runs}; "
                "try again later"
            )
        self._running += 1
        try:
            run = Run(
                request=request,
                run_id=request.run_id or RunId(uuid.uuid4().hex),
                method=method,
                budget=Budget(request.limits, max_deadline_s=self._options.max_deadline_s),
                ports=self._ports,
                options=self._options,
            )
            sequence = 0
            events = reported(partial(_guarded, run), bound=_MAX_UNREAD_EVENTS)
            async with aclosing(events):
                async for event in events:
                    yield event.model_copy(update={"sequence": sequence})
                    sequence += 1
        finally:
            self._running -= 1


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
    return failed(error, run.budget)
