"""A small world for methods that plan: heights of mountains, and differences; and what went on."""

import asyncio
import json
from collections.abc import Sequence

from services.contracts.apis import ApiRef, SideEffect
from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import (
    Deliberated,
    Limits,
    Mode,
    ModelReplied,
    PlanEvent,
    SolveRequest,
    ToolFinished,
)
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    FakeToolEnv,
    ScriptedModel,
    document,
    events_of,
    number,
    reply,
)

HEIGHT = ApiRef(category="Earth", tool="atlas", api="height")
MINUS = ApiRef(category="Math", tool="sums", api="minus")
HEIGHT_NAME = "height_for_atlas"
MINUS_NAME = "minus_for_sums"
ORDER = ApiRef(category="Shop", tool="orders", api="order")
CANCEL = ApiRef(category="Shop", tool="orders", api="cancel")
ORDERED = reply(("order_for_orders", "{}"))
_METRES = {"Everest": 8849, "Mont Blanc": 4808, "K2": 8611}


def words(text: str | None) -> Message:
    return Message(role="assistant", content=text)


def height(mountain: str) -> str:
    """The arguments of a call that asks for a height."""
    return json.dumps({"mountain": mountain})


class Sums(FakeToolEnv):
    """Answers `{"metres": 8849}`, and `4041` for a difference; unknown mountains are an error.

    Attributes:
        most_at_once: Calls that were open at the same time.
    """

    def __init__(self, *, meeting: int = 1, says: str | None = None) -> None:
        """Prepare the world.

        Args:
            meeting: No call is answered before so many have come.
            says: Answer of every height instead of the number of metres.
        """
        minus = (number("a"), number("b"))
        mountain = {"name": "mountain", "type": "STRING"}
        super().__init__(
            (
                document(HEIGHT, required_parameters=(mountain,)),
                document(MINUS, required_parameters=minus),
            )
        )
        self.most_at_once = self._open = 0
        self._meeting = meeting
        self._has_met = asyncio.Event()
        self._says = says

    async def invoke(self, call: ToolCall) -> Observation:
        self.calls.append(call)
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        if len(self.calls) >= self._meeting:
            self._has_met.set()
        await self._has_met.wait()
        self._open -= 1
        return self._observation(call)

    @property
    def arguments(self) -> list[dict[str, object]]:
        """Of every call, in order."""
        return [json.loads(call.arguments_text) for call in self.calls]

    def _observation(self, call: ToolCall) -> Observation:
        values = json.loads(call.arguments_text)
        if call.api == MINUS:
            return _observed(values["a"] - values["b"])
        if self._says is not None:
            return _observed(self._says)
        metres = _METRES.get(values["mountain"])
        if metres is None:
            content = json.dumps({"error": "no such mountain", "response": ""})
            status = CallStatus.TOOL_ERROR
            return Observation(status=status, content=content, source="custom", latency_s=0.0)
        return _observed({"metres": metres})


def _observed(response: object) -> Observation:
    content = json.dumps({"error": "", "response": response})
    return Observation(status=CallStatus.OK, content=content, source="custom", latency_s=0.0)


async def solved(
    model: ScriptedModel,
    method: str,
    world: Sums,
    *,
    mode: Mode = "exact",
    limits: Limits | None = None,
) -> list[PlanEvent]:
    planner = PlannerService(model=model, toolenv=world, retriever=None)
    request = SolveRequest(
        instruction="How much higher is Everest than Mont Blanc?",
        method=method,
        apis=(HEIGHT, MINUS),
        limits=limits or Limits(max_depth=100),
        mode=mode,
        record=True,
    )
    return await events_of(planner, request)


async def changes_of(method: str, *replies: Message) -> list[str]:
    """APIs that a run with these replies called, in a shop whose orders can be cancelled."""
    shop = FakeToolEnv(
        (
            document(ORDER, declared_effect=SideEffect.WRITE, inverse={"api": CANCEL}),
            document(CANCEL, declared_effect=SideEffect.WRITE),
        )
    )
    planner = PlannerService(model=ScriptedModel(replies), toolenv=shop, retriever=None)
    request = SolveRequest(instruction="order", method=method, apis=(ORDER,), allow_writes=True)
    await events_of(planner, request)
    return [call.api.api for call in shop.calls]


def purposes(events: Sequence[PlanEvent]) -> list[str]:
    """What the model was asked, in order: the questions' purposes, `step` for its own steps."""
    found = []
    for event in events:
        if isinstance(event, Deliberated):
            found.append(event.purpose)
        elif isinstance(event, ModelReplied) and event.usage.total_tokens:
            found.append("step")
    return found


def observations(events: Sequence[PlanEvent]) -> list[tuple[CallStatus, str]]:
    """Outcome of every action but Finish, in order."""
    ends = (CallStatus.FINISHED, CallStatus.GAVE_UP)
    return [
        (event.status, event.observation)
        for event in events
        if isinstance(event, ToolFinished) and event.status not in ends
    ]


def question(request: ChatRequest) -> str:
    """The last message that the model was shown."""
    return request.messages[-1].content or ""


def is_conversation(messages: Sequence[Message]) -> bool:
    """Whether tool messages answer the calls of the reply before them, all of them and in order."""
    owed: list[str] = []
    for message in messages:
        if message.role == "tool":
            if not owed or owed.pop(0) != message.tool_call_id:
                return False
        elif owed:
            return False
        owed += [call.id for call in message.tool_calls]
    return not owed
