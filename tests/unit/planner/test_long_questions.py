"""Methods that ask questions of their own, with a model whose context is small."""

import pytest

from services.contracts.errors import InvalidArgument
from services.contracts.llm import ChatRequest, Completion, Message, ModelInfo, Usage
from services.contracts.planner import Deliberated, Limits, SolveRequest
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    FakeToolEnv,
    ScriptedModel,
    end_of,
    events_of,
    reply,
)

pytestmark = pytest.mark.anyio

LONG = "word " * 400
METHODS = ["Reflexion@3", "ReWOO", "LLMCompiler", "BabyAGI", "CREATOR", "AgentVerse"]


class Narrow(ScriptedModel):
    """A model that refuses what is longer than its context, four characters to a token."""

    context = 1500

    async def complete(self, request: ChatRequest) -> Completion:
        characters = sum(len(message.content or "") for message in request.messages)
        tokens = characters // 4 + 50 * len(request.tools)
        if tokens + request.max_tokens > self.context:
            raise InvalidArgument(
                f"the maximum context length is {self.context} tokens, and there are {tokens} in "
                "the messages"
            )
        completion = await super().complete(request)
        return completion.model_copy(update={"usage": Usage(prompt_tokens=tokens)})


def talkative(request: ChatRequest) -> Message:
    """A reply as long as it may be, which every method finds something in."""
    if request.tool_choice != "none":
        return reply((HELLO_NAME, "{}"), thought=LONG)
    return Message(
        role="assistant",
        content=f"#E1 = {HELLO_NAME}({{}})\n1. {HELLO_NAME}({{}})\nREPLAN: {LONG}\nFAIL {LONG}",
    )


def data(_: ToolCall) -> Observation:
    return Observation(status=CallStatus.OK, content="data " * 600, source="custom")


def asked(method: str) -> SolveRequest:
    limits = Limits(max_llm_calls=30, max_depth=30)
    return SolveRequest(instruction="do it", method=method, apis=(HELLO, OTHER), limits=limits)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("method", METHODS)
async def test_a_conversation_that_grew_too_long_fails_no_run(method: str, is_known: bool) -> None:
    info = ModelInfo(context_tokens=Narrow.context if is_known else None)
    planner = PlannerService(
        model=Narrow(talkative, info=info), toolenv=FakeToolEnv(answers=data), retriever=None
    )
    end = end_of(await events_of(planner, asked(method)))
    assert end.kind in ("answered", "gave_up", "exhausted")


async def test_a_question_that_is_refused_for_its_length_is_told_and_counted() -> None:
    plan = Message(role="assistant", content=f"#E1 = {HELLO_NAME}({{}})")
    model = ScriptedModel([plan, *[InvalidArgument("the prompt is too long")] * 3])
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    events = await events_of(planner, asked("ReWOO"))
    refused = [e for e in events if isinstance(e, Deliberated) and not e.is_readable]
    assert [(event.purpose, event.text) for event in refused] == [
        ("solve", "the prompt is too long")
    ]
    end = end_of(events)
    assert (end.kind, end.llm_calls) == ("gave_up", 2)


@pytest.mark.parametrize("words", ["the prompt is too long", "no such model"])
async def test_a_first_question_that_is_refused_fails_the_run(words: str) -> None:
    model = ScriptedModel([InvalidArgument(words)] * 3)
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    end = end_of(await events_of(planner, asked("ReWOO")))
    assert (end.kind, end.problem and end.problem.code) == ("failed", "invalid_argument")


async def test_a_later_question_that_is_refused_for_another_reason_fails_the_run() -> None:
    plan = Message(role="assistant", content=f"#E1 = {HELLO_NAME}({{}})")
    model = ScriptedModel([plan, InvalidArgument("no such model")])
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    assert end_of(await events_of(planner, asked("ReWOO"))).kind == "failed"
