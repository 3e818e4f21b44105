"""`PlannerService`: the `Planner` port over a model, a tool environment and a retriever."""

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import structlog

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ServiceError,
)
from services.contracts.ids import RunId
from services.contracts.llm import ChatModel, Message
from services.contracts.planner import PlanEvent, Retrieved, RunEnded, SolveRequest
from services.contracts.retriever import RetrievedApi, Retriever, RetrieveRequest
from services.contracts.toolenv import ToolEnv
from services.kit.boundary import attribute_to
from services.kit.channel import reported
from services.planner.action_space import ActionSpace, build_action_space
from services.planner.actions import ActionRunner
from services.planner.budget import Budget, BudgetSpent
from services.planner.ending import ended, failed
from services.planner.policy import Policy, Sampling
from services.planner.prompts.base import PromptProfile
from services.planner.prompts.compact import CompactPrompts
from services.planner.prompts.toolbench import ToolBenchPrompts
from services.planner.record import build_record
from services.planner.search.base import Emit, Found, Search, SearchMethod
from services.planner.search.methods import builders, search_method
from services.planner.tree import History, extend

log = structlog.get_logger()
_MAX_UNREAD_EVENTS = 16  # a reader that falls behind holds the search back


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerOptions:
    """What the planner's operator decides, as opposed to a request."""

    max_reply_tokens: int = 512
    temperature: float = 0.0
    stream_model: bool = False
    """Pass replies on while they are written; runs with ToolBench's prompts never do."""
    max_runs: int = 64
    """Runs at a time; one more is refused, not queued."""
    max_deadline_s: float = 3600.0
    """Cap on a run's wall clock, seconds."""


@dataclass(slots=True)
class _Run:
    """One request on its way."""

    request: SolveRequest
    method: SearchMethod
    budget: Budget
    run_id: RunId
    space: ActionSpace | None = None
    retrieved: tuple[RetrievedApi, ...] = ()
    documents: list[ApiDocument] = field(default_factory=list)


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
        self._model = model
        self._toolenv = toolenv
        self._retriever = retriever
        self._options = options or PlannerOptions()
        self._running = 0
        self._methods = builders()

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
            run = _Run(
                request=request,
                method=method,
                budget=Budget(request.limits, max_deadline_s=self._options.max_deadline_s),
                run_id=request.run_id or RunId(uuid.uuid4().hex),
            )
            sequence = 0
            events = reported(partial(self._guarded, run), bound=_MAX_UNREAD_EVENTS)
            async with aclosing(events):
                async for event in events:
                    yield event.model_copy(update={"sequence": sequence})
                    sequence += 1
        finally:
            self._running -= 1

    async def _guarded(self, run: _Run, emit: Emit) -> None:
        """The run; a failing service ends it as an event instead of an exception."""
        try:
            async with attribute_to(Internal, "solve"):
                await self._run(run, emit)
        except InvalidArgument as exc:
            if run.space is None:
                raise
            await emit(_failed(run, exc))
        except ServiceError as exc:
            await emit(_failed(run, exc))

    async def _run(self, run: _Run, emit: Emit) -> None:
        began = monotonic()
        try:
            await self._find_apis(run)
        except BudgetSpent as exc:
            await emit(ended(Found(stopped=exc.spent), run.budget))
            return
        run.space = build_action_space(run.documents, compat=run.request.compat)
        await emit(
            Retrieved(
                run_id=run.run_id,
                functions=run.space.schemas,
                function_apis=run.space.apis,
                retrieved=run.retrieved,
                latency_s=monotonic() - began,
            )
        )
        search = self._search(run, run.space, emit)
        try:
            await run.method.run(search)
        except BudgetSpent as exc:
            search.found.stopped = exc.spent
        await emit(_with_record(ended(search.found, run.budget), run, run.space, search.found))

    async def _find_apis(self, run: _Run) -> None:
        """Documents of the closed or retrieved action space, in the order shown."""
        refs = run.request.apis
        if refs is None:
            run.retrieved = await self._retrieve(run)
            refs = tuple(hit.api for hit in run.retrieved)
        async with run.budget.wait():
            documents = await self._toolenv.describe(refs)
        known = {document.ref: document for document in documents}
        if run.request.apis is not None:
            _require_all(refs, known)
        run.documents = [known[ref] for ref in refs if ref in known]

    async def _retrieve(self, run: _Run) -> tuple[RetrievedApi, ...]:
        if self._retriever is None:
            raise FailedPrecondition(
                "the request names no APIs and this planner has no retriever; name some in `apis`"
            )
        query = RetrieveRequest(query=run.request.instruction, top_k=run.request.top_k)
        async with run.budget.wait():
            result = await self._retriever.retrieve(query)
        return result.apis

    def _search(self, run: _Run, space: ActionSpace, emit: Emit) -> Search:
        request, options = run.request, self._options
        compat = request.compat
        prompts: PromptProfile = (
            ToolBenchPrompts() if compat.toolbench_prompts else CompactPrompts()
        )
        sampling = Sampling(
            max_tokens=options.max_reply_tokens,
            temperature=options.temperature,
            seed=request.seed,
            stream=options.stream_model and not compat.toolbench_prompts,
            session=run.run_id,
        )
        return Search(
            policy=Policy(
                model=self._model, tools=space.schemas, budget=run.budget, sampling=sampling
            ),
            actions=ActionRunner(
                space=space,
                toolenv=self._toolenv,
                budget=run.budget,
                compat=compat,
                sources=request.sources,
            ),
            budget=run.budget,
            prompts=prompts,
            compat=compat,
            opening=_opening(prompts, space, request.instruction),
            emit=emit,
            instruction=request.instruction,
            mode=request.mode,
        )


def _opening(prompts: PromptProfile, space: ActionSpace, instruction: str) -> History:
    system = Message(role="system", content=prompts.system(space.documents))
    return extend(extend(None, system), Message(role="user", content=prompts.user(instruction)))


def _require_all(refs: Sequence[ApiRef], known: dict[ApiRef, ApiDocument]) -> None:
    missing = [str(ref) for ref in refs if ref not in known]
    if missing:
        shown = ", ".join(repr(name) for name in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InvalidArgument(f"unknown API {shown}{more}; `toolwright tools list` shows all")


def _failed(run: _Run, error: ServiceError) -> RunEnded:
    # Only a defect of ours needs its traceback; the others say where they come from.
    traced = error if isinstance(error, Internal) else None
    log.warning(
        "run_failed", run_id=run.run_id, code=error.code, detail=error.detail, exc_info=traced
    )
    return failed(error, run.budget)


def _with_record(event: RunEnded, run: _Run, space: ActionSpace, found: Found) -> RunEnded:
    if not run.request.record:
        return event
    record = build_record(
        method=run.method,
        instruction=run.request.instruction,
        found=found,
        space=space,
        budget=run.budget,
    )
    # A copy is not validated again: pydantic's readers stop at fewer levels than a tree may have.
    return event.model_copy(update={"record": record})
