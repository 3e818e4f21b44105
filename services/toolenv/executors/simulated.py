"""Lets a language model play the API, after StableToolBench's `/virtual` (interop 3.3, 3.4).

Off unless an operator configures a model. What it says is labelled `simulated`, is never recorded
as an answer of the API, and is as repeatable as the model: temperature and seeds are fixed.

Deviations from StableToolBench: a reply whose structure is not the document's is refused; calls
with unknown arguments are refused without asking the model; a failure is typed and never cached.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from services.contracts.apis import ApiRef
from services.contracts.context import remaining_s
from services.contracts.errors import DeadlineExceeded, ServiceError
from services.contracts.llm import ChatModel, ChatRequest, Message
from services.contracts.toolenv import CallSource, CallStatus, Observation
from services.toolenv.executors.base import Declined
from services.toolenv.executors.simulation import (
    MAX_EXAMPLES,
    OWN_PROFILE,
    Example,
    SimulatorProfile,
    messages_for,
    refusal_of,
)
from services.toolenv.executors.simulation_reply import (
    BadReply,
    SimulatedReply,
    fitted,
    parse_reply,
)
from services.toolenv.invocation import Invocation, check_names
from services.toolenv.observation import bounded, failed, print_reply
from services.toolenv.protocol import status_of_error

log = structlog.get_logger()

Examples = Callable[[ApiRef, int], Awaitable[Sequence[Example]]]
"""Recorded answers of an API, at most so many, always the same first."""


class SimulatedExecutor:
    """See `Executor`; a model answers in place of the API."""

    source: CallSource = "simulated"

    def __init__(
        self,
        model: ChatModel,
        *,
        profile: SimulatorProfile = OWN_PROFILE,
        examples: Examples | None = None,
        attempts: int = 3,
        call_timeout_s: float = 60.0,
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int = 42,
    ) -> None:
        """Use a model; the caller owns it.

        Args:
            model: Plays the APIs.
            profile: How it is asked.
            examples: Where recorded answers come from; `None` shows none.
            attempts: Replies asked for until one can be used, >= 1.
            call_timeout_s: Longest time for all of them, seconds.
            max_tokens: Longest reply.
            temperature: Of the sampling; 0 is greedy.
            seed: Of the first attempt; further ones count on.
        """
        self._model = model
        self._profile = profile
        self._examples = examples
        self._attempts = attempts
        self._call_timeout_s = call_timeout_s
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._seed = seed

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        """See `Executor.execute`.

        A model that cannot be reached declines: asking it had no effect on any API, and a typed
        failure of another source, if there is one, then stands.
        """
        problem = invocation.problem or check_names(invocation)
        if problem:
            return failed(CallStatus.INVALID_ARGUMENTS, f"Tool input parse error: {problem}")
        started = time.perf_counter()
        limit_s = remaining_s(at_most_s=self._call_timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._simulate(invocation)
        except (TimeoutError, DeadlineExceeded):
            text = f"Timeout: the simulator did not answer within {limit_s:.3g} s"
            answer = failed(CallStatus.TIMEOUT, text)
        except ServiceError as exc:
            return Declined(f"the simulator's language model cannot be used: {exc.detail}")
        return answer.model_copy(update={"latency_s": time.perf_counter() - started})

    async def _simulate(self, invocation: Invocation) -> Observation:
        document = invocation.entry.document
        examples = await self._recorded(document.ref)
        asked = messages_for(self._profile, document, invocation.arguments or {}, examples)
        problem = ""
        for number in range(self._attempts):
            text = await self._reply_to(asked, problem, number)
            try:
                reply = self._checked(parse_reply(text), invocation)
                content = print_reply(reply.error, reply.response)
            except BadReply as exc:
                problem = str(exc)
                continue
            except RecursionError:
                problem = "its response is nested too deeply"
                continue
            status = status_of_error(reply.error, as_reference=False)
            return bounded(status, content, source="simulated", latency_s=0.0)
        return failed(
            CallStatus.REQUEST_FAILED,
            f"Failed to simulate a response: {self._attempts} replies could not be used, the last "
            f"one because {problem[:300]}",
        )

    async def _recorded(self, ref: ApiRef) -> Sequence[Example]:
        if self._examples is None or self._profile.is_published:
            return ()
        try:
            return await self._examples(ref, MAX_EXAMPLES)
        except ServiceError as exc:
            log.warning("examples_not_read", api=str(ref), reason=exc.detail)
            return ()

    async def _reply_to(self, asked: tuple[Message, ...], problem: str, number: int) -> str:
        hint = (refusal_of(problem),) if problem and not self._profile.is_published else ()
        completion = await self._model.complete(
            ChatRequest(
                messages=asked + hint,
                max_tokens=self._max_tokens,
                temperature=self._temperature,
                seed=self._seed + number,
            )
        )
        return completion.message.content or ""

    def _checked(self, reply: SimulatedReply, invocation: Invocation) -> SimulatedReply:
        response = reply.response
        if reply.error or (self._profile.is_published and isinstance(response, str) and response):
            return reply
        if response in (None, ""):
            raise BadReply("it has neither an error nor a response")
        template = invocation.entry.document.template_response
        return SimulatedReply("", fitted(response, template))
