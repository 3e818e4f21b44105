"""Carries out what a model asked for: a tool call, Finish, or a name nobody bears."""

import json
from typing import NamedTuple

from services.contracts.apis import ApiDocument, ApiRef, SideEffect
from services.contracts.compat import Compat
from services.contracts.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    ResourceExhausted,
    ServiceError,
)
from services.contracts.planner import ToolFinished
from services.contracts.toolbench.codes import code_of, status_of_error_text
from services.contracts.toolbench.functions import FINISH
from services.contracts.toolenv import (
    MAX_ARGUMENTS_CHARS,
    CallSource,
    CallStatus,
    Observation,
    ObservationSource,
    ToolCall,
    ToolCaller,
    Trial,
)
from services.planner.action_space import ActionSpace
from services.planner.budget import Budget
from services.planner.compaction import trimmed
from services.planner.effects import (
    Deed,
    Ledger,
    NotMadeError,
    Seen,
    Site,
    interrupted,
    is_on_path,
)
from services.planner.finish import run_finish
from services.planner.permission import Permission, Question
from services.planner.tree import Node, NodeType

# Failures that have no error string of the backend; the reference numbers them by what happened.
_OUTSIDE_PROTOCOL = frozenset(
    {
        CallStatus.TIMEOUT,
        CallStatus.REQUEST_FAILED,
        CallStatus.SANDBOX_VIOLATION,
        CallStatus.OUTPUT_LIMIT,
        CallStatus.RESOURCE_LIMIT,
    }
)

_NO_CALL = frozenset(
    {None, CallStatus.NOT_ALLOWED, CallStatus.UNKNOWN_FUNCTION, CallStatus.INVALID_ARGUMENTS}
)
"""Of a node whose action reached no tool."""
_TURNED_AWAY = (
    NotMadeError,
    InvalidArgument,
    NotFound,
    FailedPrecondition,
    PayloadTooLarge,
    ResourceExhausted,
)
"""Errors of a tool environment that did not begin the call."""
_MAX_NAMED = 5  # calls that the run's end names
_MAX_NAMED_CHARS = 200  # of one call's arguments
_MADE_BEFORE = (
    "this call changes something and was made before on this path; it is not repeated, and the "
    "earlier observation stands"
)


class Outcome(NamedTuple):
    """What an action led to."""

    observation: str
    """Cut to `max_observation_chars`."""
    status: CallStatus
    answer: str | None = None
    """Plain text of the final answer, when the action gave one."""
    source: ObservationSource | None = None
    latency_s: float = 0.0
    upstream_status: int | None = None
    age_s: float | None = None
    key: str | None = None
    reused: bool = False
    """The observation of an equal call; no tool was asked again."""

    def told(self, *, call_id: int, node_id: int, expansion: int, depth: int) -> ToolFinished:
        """The event that tells of it."""
        return ToolFinished(
            node_id=node_id,
            expansion=expansion,
            depth=depth,
            call_id=call_id,
            observation=self.observation,
            status=self.status,
            code=code_of(self.status),
            source=self.source,
            latency_s=self.latency_s,
            upstream_status=self.upstream_status,
            age_s=self.age_s,
            key=self.key,
            reused=self.reused,
        )


class ActionRunner:
    """Runs the actions of one run; see `services.planner.effects` for which calls are made."""

    def __init__(
        self,
        *,
        space: ActionSpace,
        toolenv: ToolCaller,
        budget: Budget,
        compat: Compat,
        sources: tuple[CallSource, ...] | None = None,
        permission: Permission | None = None,
        user: str | None = None,
    ) -> None:
        """Bind the parts of a run.

        Args:
            space: What the model may call.
            toolenv: Carries calls out.
            budget: Books them.
            compat: Quirks to reproduce.
            sources: Who may answer; `None` leaves it to the tool environment.
            permission: What may be changed; nothing when `None`.
            user: Whose credentials are used first.
        """
        self.ledger = Ledger(compat)
        self._permission = permission or Permission()
        self._user = user
        self._space = space
        self._toolenv = toolenv
        self._budget = budget
        self._compat = compat
        self._sources = sources
        self._interrupted: list[tuple[int | None, ToolCall]] = []

    @property
    def space(self) -> ActionSpace:
        """What the model may call."""
        return self._space

    def refused(self, error: str) -> Outcome:
        """The outcome of a call whose arguments are wrong; no tool is asked."""
        return self._said(error, CallStatus.INVALID_ARGUMENTS)

    def api_of(self, name: str) -> ApiRef | None:
        """Which API a called name means; `None` for Finish and unknown names."""
        function = self._space.find(name)
        return function.api if function is not None else None

    def name_of(self, api: ApiRef) -> str:
        """The function that stands for an API; its own name where the model is shown none."""
        return next((name for name, shown in self._space.apis.items() if shown == api), api.api)

    async def run(self, name: str, arguments: str, *, site: Site | None = None) -> Outcome:
        """Carry out one action.

        A tool that fails is an ordinary outcome, and so is a call that is not allowed.

        Args:
            name: The called function.
            arguments: The model's text.
            site: Where the call is made. Without it nobody can be asked for an approval, and what
                the call changed is never undone.

        Raises:
            ServiceError: The tool environment itself cannot work.
            BudgetSpent: The run's deadline came first.
        """
        if name == FINISH:
            finished = run_finish(arguments, repair=self._compat.repair_finish_arguments)
            return Outcome(self._cut(finished.observation), finished.status, answer=finished.answer)
        api = self.api_of(name)
        document = self._space.document_of(api) if api is not None else None
        if document is None:
            text = self._space.unknown_function(name)
            return Outcome(self._cut(text), CallStatus.UNKNOWN_FUNCTION)
        if len(arguments) > MAX_ARGUMENTS_CHARS:
            return self._too_long(arguments)
        return await self._call(document, arguments, site)

    async def undo(self, deed: Deed, arguments: str, *, call_id: int) -> Outcome:
        """Make the registered inverse call of a deed; a failure of any kind is an outcome.

        Args:
            deed: What is to be undone; its document has an inverse.
            arguments: Of the inverse call, see `inverse_arguments`.
            call_id: Of the inverse call.

        Raises:
            BudgetSpent: The run's deadline came first.
        """
        inverse = deed.document.inverse
        assert inverse is not None
        if len(arguments) > MAX_ARGUMENTS_CHARS:
            return self._too_long(arguments)
        known = self._space.document_of(inverse.api)
        effect = known.side_effect if known is not None else SideEffect.WRITE
        question = Question(inverse.api, effect, arguments)
        refusal = await self._permission.refusal(question, call_id=call_id)
        if refusal is not None:
            return self._said(refusal, CallStatus.NOT_ALLOWED)
        self._budget.tool_calls += 1  # counted, but no limit keeps a run from clearing up
        try:
            work = self._invoke(inverse.api, arguments, effect=effect, call_id=call_id)
            seen = await self.ledger.observe(deed.document, work)
        except ServiceError as exc:
            return self._said(exc.detail, CallStatus.REQUEST_FAILED)
        return self._outcome(seen.observation)

    async def try_code(self, trial: Trial) -> Outcome:
        """Run code that the model wrote, in the tool environment's sandbox; counted as a tool call.

        Whatever the code does is an ordinary outcome. It reaches nothing outside, so that neither a
        permission is needed nor an entry in the ledger.

        Raises:
            ServiceError: As `ToolCaller.try_code`.
            BudgetSpent: The tool calls are spent, or the run's deadline came first.
        """
        self._budget.begin_tool_call()
        async with self._budget.wait():
            observation = await self._toolenv.try_code(trial)
        return self._outcome(observation)

    async def _call(self, document: ApiDocument, arguments: str, site: Site | None) -> Outcome:
        """Make a call, unless an earlier observation stands for it or it is not allowed."""
        ledger = self.ledger
        async with ledger.turn(document, arguments):
            deed = ledger.standing_for(document, arguments, site.node if site else None)
            if deed is not None:
                return self._standing(deed, site)
            refusal = await self._refusal(document, arguments, site)
            if refusal is not None:
                return self._said(refusal, CallStatus.NOT_ALLOWED)
            self._budget.begin_tool_call()
            effect, call_id = document.side_effect, site.call_id if site is not None else None
            work = self._invoke(document.ref, arguments, effect=effect, call_id=call_id)
            try:
                seen = await ledger.observe(document, work)
            except BaseException:
                if effect is not SideEffect.READ:  # an equal call that waits must not repeat it
                    ledger.enter(_deed(document, arguments, site, interrupted()))
                raise
            ledger.enter(_deed(document, arguments, site, seen))
        return self._outcome(seen.observation)

    async def _invoke(
        self, api: ApiRef, arguments: str, *, effect: SideEffect, call_id: int | None
    ) -> Observation:
        """Reach the tool: the one place where a run calls one."""
        call, has_begun = self._tool_call(api, arguments), False
        try:
            async with self._budget.wait():
                has_begun = True
                return await self._toolenv.invoke(call)
        except _TURNED_AWAY:
            raise
        except BaseException:
            if has_begun and effect is not SideEffect.READ:
                self._interrupted.append((call_id, call))
            raise

    def interrupted(self, call_id: int) -> Outcome | None:
        """The outcome of a change that an exception ended; `None` when there is no such change.

        Whether it took effect is not known. The run does not go on, and this is left to tell.
        """
        if all(call_id != known for known, _ in self._interrupted):
            return None
        return self._outcome(interrupted().observation)

    def unsettled(self) -> str:
        """Which changes nobody knows to have taken effect, for people; empty without any."""
        calls = [f"{call.api} with {call.arguments_text}" for _, call in self._interrupted]
        if not calls:
            return ""
        named = "; ".join(text[:_MAX_NAMED_CHARS] for text in calls[:_MAX_NAMED])
        more = f"; and {len(calls) - _MAX_NAMED} more" if len(calls) > _MAX_NAMED else ""
        return f"interrupted while it was made, so that its effect is not known: {named}{more}"

    def adopt(self, tip: Node) -> None:
        """Take over what was changed on the path of a forked run's tree; see `Ledger.adopt`."""
        for node in tip.path():
            document = self._changed_by(node)
            if document is not None and node.status is not None:
                seen = Observation(status=node.status, content=node.observation, source="replay")
                self.ledger.adopt(document, node.description, seen, node=node)

    def _changed_by(self, node: Node) -> ApiDocument | None:
        """The API that a node's action reached and whose calls change something."""
        is_call = node.node_type is NodeType.ACTION_INPUT and node.parent is not None
        if not is_call or node.status in _NO_CALL:
            return None
        assert node.parent is not None
        api = self.api_of(node.parent.description)
        document = self._space.document_of(api) if api is not None else None
        is_read = document is None or document.side_effect is SideEffect.READ
        return None if is_read else document

    def _tool_call(self, api: ApiRef, arguments: str) -> ToolCall:
        return ToolCall(api=api, arguments_text=arguments, sources=self._sources, user=self._user)

    def read_for(self, name: str, arguments: str) -> ToolCall | None:
        """What `run` would send for an action that changes nothing; `None` for any other."""
        api = self.api_of(name)
        document = self._space.document_of(api) if api is not None else None
        if document is None or document.side_effect is not SideEffect.READ:
            return None
        if len(arguments) > MAX_ARGUMENTS_CHARS:
            return None
        return self._tool_call(document.ref, arguments)

    async def _refusal(
        self, document: ApiDocument, arguments: str, site: Site | None
    ) -> str | None:
        """Why the call may not be made, for the model; `None` when it may."""
        effect = document.side_effect
        if effect is SideEffect.READ or self._compat.execute_writes_freely:
            return None
        question = Question(document.ref, effect, arguments)
        call_id = site.call_id if site is not None else None
        return await self._permission.refusal(question, call_id=call_id)

    def _standing(self, deed: Deed, site: Site | None) -> Outcome:
        """The outcome of a call for which an earlier one stands."""
        node = site.node if site is not None else None
        if is_on_path(deed, node):  # only a change gets here: reads are made again on their path
            return self._said(_MADE_BEFORE, CallStatus.NOT_ALLOWED)
        if node is not None:
            deed.relying.add(node)
        self._budget.reused_observations += 1
        return self._outcome(deed.observation)._replace(reused=True, latency_s=0.0)

    def _outcome(self, observation: Observation) -> Outcome:
        return Outcome(
            self._cut(observation.content),
            self._status(observation),
            source=observation.source,
            latency_s=observation.latency_s,
            upstream_status=observation.upstream_status,
            age_s=observation.age_s,
            key=observation.key,
        )

    def _too_long(self, arguments: str) -> Outcome:
        error = f"the arguments have {len(arguments)} characters, more than {MAX_ARGUMENTS_CHARS}"
        return self._said(error, CallStatus.INVALID_ARGUMENTS)

    def _said(self, error: str, status: CallStatus) -> Outcome:
        """The outcome of a call that reached no tool, in the form of a tool's answer."""
        return Outcome(self._cut(json.dumps({"error": error, "response": ""})), status)

    def _status(self, observation: Observation) -> CallStatus:
        if not self._compat.codes_from_error_text or observation.status in _OUTSIDE_PROTOCOL:
            return observation.status
        try:
            answer = json.loads(observation.content)
        except (ValueError, RecursionError):
            return observation.status
        error = answer.get("error") if isinstance(answer, dict) else None
        return status_of_error_text(error) if isinstance(error, str) else CallStatus.OK

    def _cut(self, text: str) -> str:
        limit = self._budget.limits.max_observation_chars
        if not self._compat.cut_observations_at_end:
            return trimmed(text, kept_chars=limit)
        return text if len(text) <= limit else f"{text[:limit]}..."


def _deed(document: ApiDocument, arguments: str, site: Site | None, seen: Seen) -> Deed:
    return Deed(
        document=document,
        arguments=arguments,
        site=site,
        observation=seen.observation,
        era=seen.era,
        relying={site.node} if site is not None else set(),
    )
