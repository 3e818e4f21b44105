"""Carries out what a model asked for: a tool call, Finish, or a name nobody bears."""

import json
from typing import NamedTuple

from services.contracts.apis import ApiRef
from services.contracts.compat import Compat
from services.contracts.toolbench.codes import status_of_error_text
from services.contracts.toolbench.functions import FINISH
from services.contracts.toolenv import (
    MAX_ARGUMENTS_CHARS,
    CallSource,
    CallStatus,
    Observation,
    ObservationSource,
    ToolCall,
    ToolEnv,
)
from services.planner.action_space import ActionSpace
from services.planner.budget import Budget
from services.planner.finish import run_finish

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


class ActionRunner:
    """Runs the actions of one run, one after the other."""

    def __init__(
        self,
        *,
        space: ActionSpace,
        toolenv: ToolEnv,
        budget: Budget,
        compat: Compat,
        sources: tuple[CallSource, ...] | None = None,
    ) -> None:
        self._space = space
        self._toolenv = toolenv
        self._budget = budget
        self._compat = compat
        self._sources = sources

    def api_of(self, name: str) -> ApiRef | None:
        """Which API a called name means; `None` for Finish and unknown names."""
        function = self._space.find(name)
        return function.api if function is not None else None

    async def run(self, name: str, arguments: str) -> Outcome:
        """Carry out one action.

        A tool that fails is an ordinary outcome.

        Raises:
            ServiceError: The tool environment itself cannot work.
            BudgetSpent: The run's deadline came first.
        """
        if name == FINISH:
            finished = run_finish(arguments, repair=self._compat.repair_finish_arguments)
            return Outcome(self._cut(finished.observation), finished.status, answer=finished.answer)
        api = self.api_of(name)
        if api is None:
            text = self._space.unknown_function(name)
            return Outcome(self._cut(text), CallStatus.UNKNOWN_FUNCTION)
        if len(arguments) > MAX_ARGUMENTS_CHARS:
            return self._refused(
                f"the arguments have {len(arguments)} characters, more than {MAX_ARGUMENTS_CHARS}"
            )
        async with self._budget.wait():
            observation = await self._toolenv.invoke(
                ToolCall(api=api, arguments_text=arguments, sources=self._sources)
            )
        self._budget.tool_calls += 1
        return Outcome(
            self._cut(observation.content),
            self._status(observation),
            source=observation.source,
            latency_s=observation.latency_s,
            upstream_status=observation.upstream_status,
            age_s=observation.age_s,
            key=observation.key,
        )

    def _refused(self, error: str) -> Outcome:
        text = json.dumps({"error": error, "response": ""})
        return Outcome(self._cut(text), CallStatus.INVALID_ARGUMENTS)

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
        return text if len(text) <= limit else f"{text[:limit]}..."
