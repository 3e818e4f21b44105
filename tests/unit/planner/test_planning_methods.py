"""What holds for every method that plans or reflects, whatever the model writes."""

import random

import pytest

from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import ExpansionStarted, Limits, ToolFinished, ToolStarted
from tests.fakes.planner_ports import ScriptedModel, answer, end_of, give_up, reply
from tests.fakes.planner_sums import (
    HEIGHT_NAME,
    MINUS_NAME,
    Sums,
    height,
    is_conversation,
    solved,
    words,
)

pytestmark = pytest.mark.anyio

METHODS = ["Reflexion@3", "ReWOO", "LLMCompiler", "BabyAGI", "CREATOR", "AgentVerse"]
TEXTS = [
    None,
    "",
    "DONE",
    "NOT DONE: {reason}",
    "AGREE",
    "FAIL: {0}",
    "FINISH: 4041",
    "REPLAN: {first}",
    "1. look {it} up\n2. subtract\n3. K2",
    "2, 1",
    f"#E1 = {HEIGHT_NAME}({height('K2')}) #E2 = {MINUS_NAME}({{'a': #E1.metres, 'b': '#E1'}})",
    f"#E2 = {HEIGHT_NAME}({{}})\n#E1 = nonesuch()\n#E2 = {MINUS_NAME}()",
    f'1. {HEIGHT_NAME}({height("K2")})\n2. {MINUS_NAME}({{"a": $1.metres, "b": "$1"}})',
    f'3. {MINUS_NAME}({{"a": "$1.metres", "b": "$4"}})\n4. Finish()',
    "\x00#E1 = f(" + "[" * 2_000,
]


def drawn(seed: int) -> ScriptedModel:
    """A model that writes anything, anywhere."""
    draw = random.Random(seed)

    def written(_: ChatRequest) -> Message:
        text = draw.choice(TEXTS)
        calls = [(HEIGHT_NAME, height("K2")), (MINUS_NAME, '{"a": 1, "b": 1}'), ("nonesuch", "{")]
        some = reply(*draw.sample(calls, draw.randrange(1, 3)), thought=text)
        return draw.choice([words(text), words(text), some, answer("x"), give_up()])

    return ScriptedModel(written)


@pytest.mark.parametrize("mode", ["exact", "parallel"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_run_ends_whatever_the_model_writes(method: str, mode: str) -> None:
    limits = Limits(max_llm_calls=25, max_depth=12, max_tool_calls=6)
    for seed in range(12):
        model = drawn(seed)
        events = await solved(model, method, Sums(), mode=mode, limits=limits)
        end = end_of(events)
        assert end.kind in {"answered", "gave_up", "exhausted"}, (seed, end.reason)
        assert end.llm_calls == len(model.requests) <= 25, seed
        assert all(is_conversation(request.messages) for request in model.requests), seed
        begun = [event.call_id for event in events if isinstance(event, ToolStarted)]
        ended = [event.call_id for event in events if isinstance(event, ToolFinished)]
        told = {event.expansion for event in events if isinstance(event, ExpansionStarted)}
        assert begun == list(range(1, len(begun) + 1)), seed
        assert set(ended) <= set(begun), seed
        assert told == set(range(1, len(told) + 1)), seed
