"""One run: finds its APIs, puts its search together, and tells how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.ids import RunId
from services.contracts.llm import ChatModel, Message
from services.contracts.planner import Retrieved, RunEnded, SolveRequest
from services.contracts.retriever import RetrievedApi, Retriever, RetrieveRequest
from services.contracts.toolenv import ToolEnv
from services.planner.action_space import ActionSpace, build_action_space
from services.planner.actions import ActionRunner
from services.planner.budget import Budget, BudgetSpent
from services.planner.ending import ended
from services.planner.policy import Policy, Sampling
from services.planner.prompts.base import PromptProfile
from services.planner.prompts.library import PromptLibrary
from services.planner.record import build_record
from services.planner.search.base import Emit, Found, Search, SearchMethod
from services.planner.tree import History, extend


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a run calls; they belong to the planner's caller."""

    model: ChatModel
    toolenv: ToolEnv
    retriever: Retriever | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the planner's operator decides about every run, as opposed to a request."""

    max_reply_tokens: int = 512
    temperature: float = 0.0
    stream_model: bool = False
    """Pass replies on while they are written; runs with ToolBench's prompts never do."""
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
    space: ActionSpace | None = None
    """Known once the APIs were found."""
    retrieved: tuple[RetrievedApi, ...] = ()
    documents: list[ApiDocument] = field(default_factory=list)

    async def go(self, emit: Emit) -> None:
        """Run to the end; the last event told is a `RunEnded`.

        Raises:
            InvalidArgument: The request names an unknown API; nothing was told yet.
            ServiceError: A service failed.
        """
        prompts = self.options.prompts.profile(self.request.prompts, compat=self.request.compat)
        began = monotonic()
        try:
            await self._find_apis()
        except BudgetSpent as exc:
            await emit(ended(Found(stopped=exc.spent), self.budget))
            return
        self.space = build_action_space(
            self.documents, compat=self.request.compat, finish=prompts.finish()
        )
        await emit(
            Retrieved(
                run_id=self.run_id,
                functions=self.space.schemas,
                function_apis=self.space.apis,
                retrieved=self.retrieved,
                latency_s=monotonic() - began,
            )
        )
        search = self._search(self.space, prompts, emit)
        try:
            await self.method.run(search)
        except BudgetSpent as exc:
            search.found.stopped = exc.spent
        await emit(self._with_record(ended(search.found, self.budget), self.space, search.found))

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

    def _search(self, space: ActionSpace, prompts: PromptProfile, emit: Emit) -> Search:
        request, options = self.request, self.options
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
                model=self.ports.model, tools=space.schemas, budget=self.budget, sampling=sampling
            ),
            actions=ActionRunner(
                space=space,
                toolenv=self.ports.toolenv,
                budget=self.budget,
                compat=compat,
                sources=request.sources,
            ),
            budget=self.budget,
            prompts=prompts,
            compat=compat,
            opening=_opening(prompts, space, request.instruction),
            emit=emit,
            instruction=request.instruction,
            mode=request.mode,
        )

    def _with_record(self, event: RunEnded, space: ActionSpace, found: Found) -> RunEnded:
        if not self.request.record:
            return event
        record = build_record(
            method=self.method,
            instruction=self.request.instruction,
            found=found,
            space=space,
            budget=self.budget,
        )
        # A copy is not validated again: pydantic reads fewer levels than a tree may have.
        return event.model_copy(update={"record": record})


def _opening(prompts: PromptProfile, space: ActionSpace, instruction: str) -> History:
    system = Message(role="system", content=prompts.system(space.documents))
    return extend(extend(None, system), Message(role="user", content=prompts.user(instruction)))


def _require_all(refs: Sequence[ApiRef], known: dict[ApiRef, ApiDocument]) -> None:
    missing = [str(ref) for ref in refs if ref not in known]
    if missing:
        shown = ", ".join(repr(name) for name in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InvalidArgument(f"unknown API {shown}{more}; `toolwright tools list` shows all")
