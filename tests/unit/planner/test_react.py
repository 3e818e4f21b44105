"""ReAct: independent chains."""

import pytest

from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.llm import Message
from services.contracts.planner import ExpansionFinished, Limits, PlanEvent, SolveRequest
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio

STEP = reply((HELLO_NAME, "{}"))


async def run(
    model: ScriptedModel, method: str = "CoT@1", compat: Compat = TOOLBENCH, **limits: int
) -> list[PlanEvent]:
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    request = SolveRequest(
        instruction="say hello",
        method=method,
        apis=(HELLO,),
        limits=Limits(**limits),
        compat=compat,
        record=True,
    )
    return await events_of(planner, request)


async def test_a_chain_grows_until_it_answers() -> None:
    end = end_of(await run(ScriptedModel([STEP, STEP, answer("hi")])))
    assert (end.kind, end.llm_calls, end.answer) == ("answered", 3, "hi")
    assert [m.role for m in end.solution_path] == [
        "system",
        "user",
        *("assistant", "tool") * 3,
    ]


async def test_the_next_chain_starts_from_scratch() -> None:
    model = ScriptedModel([STEP, give_up(), answer("second")])
    end = end_of(await run(model, "CoT@3"))
    assert len(model.requests[2].messages) == 2
    assert end.record["try_count"] == 2
    assert [t["win"] for t in end.record["trys"]] == [False, False]
    assert end.record["win"] is True


async def test_a_chain_ends_at_the_depth_limit() -> None:
    end = end_of(await run(ScriptedModel(lambda _: STEP), max_depth=6))
    assert (end.kind, end.llm_calls) == ("exhausted", 3)
    assert end.record["trys"][0]["chain"][-1]["pruned"] is True


async def test_giving_up_leaves_no_valid_data() -> None:
    end = end_of(await run(ScriptedModel([give_up()])))
    assert end.kind == "gave_up"
    generation = end.record["answer_generation"]
    assert (generation["valid_data"], generation["final_answer"]) == (False, "")
    assert generation["train_messages"] == []
    assert "finish_type" not in generation


async def test_every_invented_name_of_a_reply_is_hidden() -> None:
    calls = ((HELLO_NAME, "{}"), ("made_up", "{}"), ("invented", "{}"))
    model = ScriptedModel([reply(*calls), answer("x")])
    await run(model)
    names = [call.name for call in model.requests[1].messages[2].tool_calls]
    assert names == [HELLO_NAME, *["invalid_hallucination_function_name"] * 2]


async def test_the_call_limit_holds_for_chains_too() -> None:
    compat = TOOLBENCH.model_copy(update={"cot_ignores_call_limit": False})
    end = end_of(await run(ScriptedModel(lambda _: STEP), "CoT@9", compat, max_llm_calls=4))
    assert (end.kind, end.llm_calls) == ("exhausted", 4)
    assert end.reason == "max_llm_calls=4 was reached"


async def test_every_step_is_told_and_closed_from_the_last_to_the_first() -> None:
    events = await run(ScriptedModel([STEP, STEP, answer("hi")]))
    closed = [event.expansion for event in events if isinstance(event, ExpansionFinished)]
    assert closed == [3, 2, 1]


async def test_a_thought_alone_goes_on() -> None:
    model = ScriptedModel([Message(role="assistant", content="hm"), answer("x")])
    end = end_of(await run(model))
    assert [n["node_type"] for n in end.record["trys"][0]["chain"]] == [
        "Thought",
        "Action",
        "Action Input",
    ]


async def test_the_plain_profile_sends_the_bare_instruction() -> None:
    model = ScriptedModel([answer("x")])
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    request = SolveRequest(instruction="say hello", method="react", apis=(HELLO,), compat=NONE)
    await events_of(planner, request)
    assert model.requests[0].messages[1].content == "say hello"
