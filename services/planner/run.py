"""One run: finds its APIs, puts its search together, and tells how it ended."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import FailedPrecondition, InvalidArgument, ServiceError
from services.contracts.ids import RunId
from services.contracts.llm import ChatModel, Message, ModelInfo
from services.contracts.planner import Limits, PlanEvent, Retrieved, RunEnded, SolveRequest
from services.contracts.retriever import RetrievedApi, Retriever, RetrieveRequest
from services.contracts.toolenv import ToolCaller
from services.planner.action_space import ActionSpace, build_action_space
from services.planner.actions import ActionRunner
from services.planner.approvals import Approvals
from services.planner.budget import Budget, BudgetSpent, Prices
from services.planner.compaction import OldestFirst
from services.planner.ending import ended
from services.planner.last_answer import answer_at_limit
from services.planner.permission import Asking, Permission, Question
from services.planner.policy import Policy, Sampling
from services.planner.prompts.base import PromptProfile
from services.planner.prompts.library import PromptLibrary
from services.planner.provenance import provenance
from services.planner.record import build_record
from services.planner.search.base import Ahead, Emit, Found, Search, SearchMethod
from services.planner.search.graft import graft
from services.planner.speculation import Allowance, GuessEndsError, PortsAhead, Speculation
from services.planner.tracing import plan_span
from services.planner.tree import History, extend
from services.planner.trunk import Trunk
from services.planner.turn import Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a run calls; they belong to the planner's caller."""

    model: ChatModel
    toolenv: ToolCaller
    retriever: Retriever | None
    speculation: Speculation | None = None
    """Where calls may be made ahead of time; it stands behind this model and tool environment."""

    def speculating(self, allowance: Allowance, limits: Limits) -> "Ports":
        """The ports of one run in mode `speculative`."""
        ahead = Speculation(
            model=self.model, toolenv=self.toolenv, allowance=allowance, limits=limits
        )
        return replace(self, model=ahead.model, toolenv=ahead.toolenv, speculation=ahead)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the planner's operator decides about every run, as opposed to a request."""

    max_reply_tokens: int = 512
    temperature: float = 0.0
    stream_model: bool = False
    """Pass replies on while they are written; runs with ToolBench's prompts never do."""
    prices: Prices | None = None
    """What tokens cost; without it runs tell no cost and `max_cost_usd` is refused."""
    approval_timeout_s: float = 300.0
    """Longest wait for a decision about one call, seconds; then it counts as refused."""
    prompts: PromptLibrary = field(default_factory=lambda: PromptLibrary(None))
    """Profiles that a request may name."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One request on its way."""

    request: SolveRequest
    run_id: RunId
    method: SearchMethod
    budget: Budget
    ports: Ports
    options: RunOptions
    approvals: Approvals = field(default_factory=Approvals)
    """Where decisions about the run's calls arrive."""
    space: ActionSpace | None = None
    """Known once the APIs were found."""
    retrieved: tuple[RetrievedApi, ...] = ()
    documents: list[ApiDocument] = field(default_factory=list)
    trunk: Trunk | None = None
    """What the trees of a forked run start with."""
    search: Search | None = None
    """Known once the search began."""
    cancelled: RunEnded | None = None
    """How a kept run was cancelled, as it is kept."""

    async def go(self, emit: Emit) -> None:
        """Run to the end; the last event told is a `RunEnded`.

        Raises:
            InvalidArgument: The request names an unknown API, or the fork an unknown function;
                nothing was told yet.
            ServiceError: A service failed.
        """
        prompts = self.options.prompts.profile(self.request.prompts, compat=self.request.compat)
        began = monotonic()
        try:
            await self._find_apis()
            model_info = await self._describe_model()
        except BudgetSpent as exc:
            await emit(ended(Found(stopped=exc.spent), self.budget, run_id=self.run_id))
            return
        space = build_action_space(
            self.documents, compat=self.request.compat, finish=prompts.finish()
        )
        if self.trunk is not None and self.trunk.action is not None:
            space.require(self.trunk.action.function)
        self.space = space
        await emit(
            Retrieved(
                run_id=self.run_id,
                functions=self.space.schemas,
                function_apis=self.space.apis,
                retrieved=self.retrieved,
                latency_s=monotonic() - began,
            )
        )
        search = self.search = self._search(self.space, prompts, model_info, emit)
        with plan_span(self.method.name):
            try:
                async with self._running_ahead(search, self.space):
                    await graft(search)
                    await self.method.run(search)
                if search.found.answer is None:
                    await search.abandon_all()
            except BudgetSpent as exc:
                search.found.stopped = exc.spent
        await answer_at_limit(search)
        event = self.noted(ended(search.found, self.budget, run_id=self.run_id))
        await emit(self._with_record(event, search, self.space))

    def noted(self, event: RunEnded) -> RunEnded:
        """The run's end, whose reason also names the changes that were interrupted."""
        note = self.search.actions.unsettled() if self.search is not None else ""
        reason = event.reason or ""
        if note in reason:  # there is none, or a replay's reason has it from the record
            return event
        return event.model_copy(update={"reason": "; ".join(filter(None, (reason, note)))})

    async def _find_apis(self) -> None:
        """Documents of the closed or retrieved action space, in the order shown."""
        refs = self.request.apis
        if refs is None:
            self.retrieved = await self._retrieve()
            refs = tuple(hit.api for hit in self.retrieved)
        async with self.budget.wait():
            documents = await self.ports.toolenv.describe(refs)
        known = {document.ref: document for document in documents}
        if self.request.apis is not None:
            _require_all(refs, known)
        self.documents = [known[ref] for ref in refs if ref in known]

    async def _retrieve(self) -> tuple[RetrievedApi, ...]:
        if self.ports.retriever is None:
            raise FailedPrecondition(
                "the request names no APIs and this planner has no retriever; name some in `apis`"
            )
        query = RetrieveRequest(query=self.request.instruction, top_k=self.request.top_k)
        async with self.budget.wait():
            result = await self.ports.retriever.retrieve(query)
        return result.apis

    async def _describe_model(self) -> ModelInfo:
        """What the model can do; nothing known when it cannot say, which is no reason to fail."""
        try:
            async with self.budget.wait():
                return await self.ports.model.describe()
        except ServiceError:
            return ModelInfo()

    def _running_ahead(
        self, search: Search, space: ActionSpace
    ) -> AbstractAsyncContextManager[None]:
        """Let the search run ahead of itself inside the block, where the run's mode says so."""
        speculation = self.ports.speculation
        if speculation is None:
            return nullcontext()
        fork = partial(
            self._search,
            space,
            search.prompts,
            search.model_info,
            _untold,
            ports=speculation.ports_ahead(space),
        )
        search.ahead = Ahead(speculation=speculation, fork=lambda budget: fork(budget=budget))
        return speculation.open(self.budget)

    def _search(
        self,
        space: ActionSpace,
        prompts: PromptProfile,
        model_info: ModelInfo,
        emit: Emit,
        *,
        ports: PortsAhead | None = None,
        budget: Budget | None = None,
    ) -> Search:
        """The run's search, or one ahead of it with ports and a budget of its own."""
        request, options = self.request, self.options
        calls, budget = ports or self.ports, budget or self.budget
        compat = request.compat
        sampling = Sampling(
            max_tokens=options.max_reply_tokens,
            temperature=options.temperature,
            seed=request.seed,
            stream=options.stream_model and not compat.toolbench_prompts,
            session=self.run_id,
        )
        return Search(
            policy=Policy(
                model=calls.model,
                tools=space.schemas,
                budget=budget,
                sampling=sampling,
                turns=Turns(
                    context_tokens=model_info.context_tokens,
                    compaction=None if compat.no_compaction else OldestFirst(),
                ),
                shows_budget=request.show_budget,
            ),
            actions=ActionRunner(
                space=space,
                toolenv=calls.toolenv,
                budget=budget,
                compat=compat,
                sources=request.sources,
                permission=self._permission(emit, is_ahead=ports is not None),
                user=request.user,
            ),
            budget=budget,
            prompts=prompts,
            compat=compat,
            opening=_opening(prompts, space, request.instruction),
            emit=emit,
            instruction=request.instruction,
            mode=request.mode,
            model_info=model_info,
            trunk=self.trunk,
        )

    def _permission(self, emit: Emit, *, is_ahead: bool) -> Permission:
        if not self.request.ask_approval:
            return Permission(allow_writes=self.request.allow_writes)
        if is_ahead:
            return Permission(ask=_nobody)
        asking = Asking(
            run_id=self.run_id,
            approvals=self.approvals,
            emit=emit,
            budget=self.budget,
            timeout_s=self.options.approval_timeout_s,
        )
        return Permission(ask=asking)

    def _with_record(self, event: RunEnded, search: Search, space: ActionSpace) -> RunEnded:
        if not self.request.record:
            return event
        record = build_record(
            method=self.method,
            instruction=self.request.instruction,
            found=search.found,
            space=space,
            budget=self.budget,
            provenance=provenance(
                self.request,
                method=self.method.name,
                prompts=search.prompts,
                model=search.model_info,
                event=event,
            ),
        )
        # A copy is not validated again: pydantic reads fewer levels than a tree may have.
        return event.model_copy(update={"record": record})


async def _untold(_: PlanEvent) -> None:
    """Of what goes on ahead of time nobody is told."""


async def _nobody(question: Question, *, call_id: int) -> bool | None:
    """See `Ask`: about what goes on ahead of time nobody is asked, so it ends there."""
    raise GuessEndsError


def _opening(prompts: PromptProfile, space: ActionSpace, instruction: str) -> History:
    system = Message(role="system", content=prompts.system(space.documents))
    return extend(extend(None, system), Message(role="user", content=prompts.user(instruction)))


def _require_all(refs: Sequence[ApiRef], known: dict[ApiRef, ApiDocument]) -> None:
    missing = [str(ref) for ref in refs if ref not in known]
    if missing:
        shown = ", ".join(repr(name) for name in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InvalidArgument(f"unknown API {shown}{more}; `toolwright tools list` shows all")
