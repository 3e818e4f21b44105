"""The best-so-far answer of a run that a budget ends."""

import asyncio

import pytest

from services.contracts.compat import NONE, Compat
from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.llm import ChatRequest, Message, ModelInfo, Usage
from services.contracts.planner import Limits, PlanEvent, RunEnded, SolveRequest
from services.contracts.toolenv import CallStatus, Observation
from services.planner.budget import Prices
from services.planner.last_answer import ASK
from services.planner.service import PlannerOptions, PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    OTHER_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    events_of,
    give_up,
    number,
    reply,
)

pytestmark = pytest.mark.anyio

DOCUMENTS = (document(HELLO, required_parameters=(number("n"),)), document(OTHER))


class Wanderer(ScriptedModel):
    """Calls a tool with ever new arguments; answers when only Finish is offered."""

    def __init__(self, last: Message | None = None, **options: object) -> None:
        super().__init__(self._say, **options)  # type: ignore[arg-type]
        self._last = last or answer("the best I have")

    def _say(self, request: ChatRequest) -> Message:
        if [tool.name for tool in request.tools] == ["Finish"]:
            return self._last
        return reply((HELLO_NAME, f'{{"n": {len(self.requests)}}}'))

    @property
    def last(self) -> ChatRequest:
        return self.requests[-1]

    @property
    def was_asked_a_last_time(self) -> bool:
        return any(len(request.tools) == 1 for request in self.requests)


async def run(
    model: ScriptedModel,
    *,
    compat: Compat = NONE,
    toolenv: FakeToolEnv | None = None,
    method: str = "CoT@1",
    options: PlannerOptions | None = None,
    **limits: float,
) -> RunEnded:
    events = await events_run(
        model, compat=compat, toolenv=toolenv, method=method, options=options, **limits
    )
    return end_of(events)


async def events_run(
    model: ScriptedModel,
    *,
    compat: Compat = NONE,
    toolenv: FakeToolEnv | None = None,
    method: str = "CoT@1",
    options: PlannerOptions | None = None,
    **limits: float,
) -> list[PlanEvent]:
    request = SolveRequest(
        instruction="say hello",
        method=method,
        apis=(HELLO, OTHER),
        compat=compat,
        limits=Limits.model_validate({"max_depth": 100} | limits),
    )
    planner = PlannerService(
        model=model, toolenv=toolenv or FakeToolEnv(DOCUMENTS), retriever=None, options=options
    )
    return await events_of(planner, request)


async def test_the_last_model_call_is_kept_for_an_answer() -> None:
    model = Wanderer()
    end = await run(model, max_llm_calls=6)
    assert (end.kind, end.limit, end.is_best_effort) == ("exhausted", "max_llm_calls", True)
    assert (end.answer, end.llm_calls, end.tool_calls) == ("the best I have", 6, 5)
    assert model.last.messages[-1] == Message(role="user", content=ASK)


async def test_with_the_quirk_a_budget_ends_the_run_with_nothing() -> None:
    model = Wanderer()
    end = await run(model, max_llm_calls=6, compat=Compat(no_answer_at_limits=True))
    assert (end.kind, end.limit, end.answer) == ("exhausted", "max_llm_calls", None)
    assert (end.llm_calls, end.tool_calls, model.was_asked_a_last_time) == (6, 6, False)


async def test_of_few_calls_none_is_kept() -> None:
    model = Wanderer()
    end = await run(model, max_llm_calls=4)
    assert (end.answer, end.llm_calls, end.tool_calls) == (None, 4, 4)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_depth": 6}, "max_depth"),
        ({"max_steps": 3}, "max_steps"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"max_tokens": 100}, "max_tokens"),
    ],
)
async def test_every_budget_leaves_room_for_it(limits: dict[str, float], limit: str) -> None:
    end = await run(Wanderer(), **limits)
    assert (end.kind, end.limit, end.answer) == ("exhausted", limit, "the best I have")


async def test_the_limit_of_tokens_holds_with_the_last_call() -> None:
    model = Wanderer(usage=Usage(prompt_tokens=8, completion_tokens=2))
    end = await run(model, max_tokens=99)
    assert (end.usage.total_tokens, end.is_best_effort) == (90, True)


async def test_money_is_limited_and_told() -> None:
    options = PlannerOptions(prices=Prices(100_000.0, 0.0))  # a dollar for ten tokens
    model = Wanderer(usage=Usage(prompt_tokens=10))
    end = await run(model, options=options, max_cost_usd=7.5)
    assert (end.kind, end.limit, end.is_best_effort) == ("exhausted", "max_cost_usd", True)
    assert end.cost_usd == pytest.approx(7.0)


async def test_the_end_of_the_deadline_is_kept_for_an_answer() -> None:
    model = Wanderer(delay_s=0.03)
    end = await run(model, deadline_s=0.5, max_llm_calls=1000)
    assert (end.kind, end.limit, end.answer) == ("exhausted", "deadline_s", "the best I have")
    assert end.seconds < 0.6


async def test_a_tool_that_hangs_does_not_eat_the_time_kept() -> None:
    class Hanging(FakeToolEnv):
        async def invoke(self, call: object) -> Observation:
            if len(self.calls) == 1:
                await asyncio.sleep(60)
            return await super().invoke(call)  # type: ignore[arg-type]

    end = await run(Wanderer(delay_s=0.03), toolenv=Hanging(DOCUMENTS), deadline_s=0.5)
    assert (end.limit, end.answer) == ("deadline_s", "the best I have")


async def test_without_an_observation_nothing_is_asked() -> None:
    failing = FakeToolEnv(
        DOCUMENTS,
        answers=lambda call: Observation(
            status=CallStatus.REQUEST_FAILED, content=call.arguments_text, source="custom"
        ),
    )
    model = Wanderer()
    end = await run(model, toolenv=failing, max_llm_calls=6)
    assert (end.answer, end.llm_calls, model.was_asked_a_last_time) == (None, 6, False)


@pytest.mark.parametrize(
    "last", [give_up(), Message(role="assistant", content="dunno"), answer("")]
)
async def test_a_model_that_says_nothing_leaves_the_run_without_an_answer(last: Message) -> None:
    end = await run(Wanderer(last), max_llm_calls=6)
    assert (end.kind, end.answer, end.is_best_effort) == ("exhausted", None, False)


async def test_a_model_that_fails_leaves_the_run_as_it_was() -> None:
    class Failing(Wanderer):
        def _say(self, request: ChatRequest) -> Message:
            if len(request.tools) == 1:
                raise Unavailable("gone")
            return super()._say(request)

    end = await run(Failing(), max_llm_calls=6)
    assert (end.kind, end.limit, end.answer) == ("exhausted", "max_llm_calls", None)


async def test_a_model_that_only_proposes_calls_is_shown_finish_and_no_sentence() -> None:
    model = Wanderer(info=ModelInfo(follows_instructions=False))
    end = await run(model, max_llm_calls=6)
    assert end.answer == "the best I have"
    assert model.last.messages[-1].role == "tool"


async def test_it_is_asked_at_the_path_that_knows_most() -> None:
    # The first branch has two tool answers, the second one none.
    steps = iter([(HELLO_NAME, '{"n": 1}'), (HELLO_NAME, '{"n": 2}'), ("nobody", "{}")])

    def say(request: ChatRequest) -> Message:
        if len(request.tools) == 1:
            return answer("known")
        return reply(next(steps, ("nobody", "{}")))

    model = ScriptedModel(say)
    end = await run(model, method="DFS_woFilter_w2", max_depth=6)
    observed = [m for m in model.requests[-1].messages if m.role == "tool"]
    assert (end.answer, len(observed)) == ("known", 2)
    assert all(OTHER_NAME not in (m.name or "") for m in observed)


async def test_a_run_that_gave_up_is_not_asked_again() -> None:
    model = ScriptedModel([reply((HELLO_NAME, "{}")), give_up()])
    end = await run(model)
    assert (end.kind, end.llm_calls) == ("gave_up", 2)


async def test_max_cost_without_prices_is_refused_and_names_the_settings() -> None:
    with pytest.raises(InvalidArgument, match="PLANNER_USD_PER_MILLION_PROMPT_TOKENS"):
        await run(Wanderer(), max_cost_usd=1.0)


async def test_the_terminal_event_carries_the_runs_id() -> None:
    request = SolveRequest(instruction="x", apis=(HELLO,), run_id="my-run")
    planner = PlannerService(
        model=ScriptedModel([answer("hi")]), toolenv=FakeToolEnv(), retriever=None
    )
    assert end_of(await events_of(planner, request)).run_id == "my-run"
