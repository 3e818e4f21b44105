"""LLMCompiler: plan, run what is ready, join."""

import anyio
import pytest

from services.contracts.llm import Message
from services.contracts.planner import Limits
from services.contracts.toolenv import CallStatus
from services.planner.search.llm_compiler import read_decision
from tests.fakes.planner_ports import ScriptedModel, end_of
from tests.fakes.planner_sums import (
    HEIGHT_NAME,
    MINUS_NAME,
    Sums,
    height,
    is_conversation,
    observations,
    purposes,
    question,
    solved,
    words,
)

pytestmark = pytest.mark.anyio

PLAN = f"""1. {HEIGHT_NAME}({height("Everest")})
2. {HEIGHT_NAME}({height("Mont Blanc")})
3. {MINUS_NAME}({{"a": "$1.metres", "b": "$2.metres"}})
4. join()"""
FINISH = words("Thought: the difference is known.\nFINISH: 4041 metres")


def scripted(*texts: str | Message) -> ScriptedModel:
    return ScriptedModel([words(text) if isinstance(text, str) else text for text in texts])


async def test_the_example_computed_by_hand() -> None:
    """Sections 3.1 to 3.3, the shape of figure 2: two searches, one calculation of both, join.

    $1 and $2 need nothing, $3 needs both: 8849 - 4808 = 4041. Two model calls, three tool calls, of
    which the first two may overlap; 9 nodes as in ReWOO's example.
    """
    world = Sums(meeting=2)  # answers nothing before two calls are open
    model = scripted(PLAN, FINISH)
    events = await solved(model, "LLMCompiler", world, mode="parallel")
    end = end_of(events)
    assert (end.kind, end.answer) == ("answered", "4041 metres")
    assert (end.llm_calls, end.tool_calls, world.most_at_once) == (2, 3, 2)
    assert purposes(events) == ["plan", "join"]
    assert world.arguments[2] == {"a": 8849, "b": 4808}
    (chain,) = [tried["chain"] for tried in end.record["trys"]]
    assert [node["node_type"] for node in chain] == ["Thought", *["Action", "Action Input"] * 4]


async def test_in_exact_mode_one_call_follows_the_other_and_the_tree_is_the_same() -> None:
    one, other = Sums(), Sums()
    exact = end_of(await solved(scripted(PLAN, FINISH), "LLMCompiler", one))
    parallel = end_of(await solved(scripted(PLAN, FINISH), "LLMCompiler", other, mode="parallel"))
    assert one.most_at_once == 1
    assert exact.record["trys"] == parallel.record["trys"]


async def test_a_second_plan_goes_on_from_the_first() -> None:
    world = Sums()
    model = scripted(
        PLAN.replace("Mont Blanc", "Mt Blanc"),
        "REPLAN: the name of the second mountain was wrong",
        f"4. {HEIGHT_NAME}({height('Mont Blanc')})\n"
        f'5. {MINUS_NAME}({{"a": "$1.metres", "b": "$4.metres"}})',
        FINISH,
    )
    events = await solved(model, "LLMCompiler", world)
    end = end_of(events)
    assert (end.kind, end.llm_calls, end.tool_calls) == ("answered", 4, 4)
    assert purposes(events) == ["plan", "join", "plan", "join"]
    assert world.arguments[-1] == {"a": 8849, "b": 4808}
    assert "the name of the second mountain was wrong" in question(model.requests[2])
    assert "\n4. function_name(" in question(model.requests[2])
    assert all(is_conversation(request.messages) for request in model.requests)


async def test_the_last_plan_must_finish() -> None:
    model = scripted(*[f"1. {HEIGHT_NAME}({height('K2')})", "REPLAN: more"] * 3)
    end = end_of(await solved(model, "LLMCompiler", Sums()))
    assert (end.kind, end.llm_calls) == ("gave_up", 6)
    assert "no more can be made" in question(model.requests[5])


async def test_no_plan_begins_below_the_depth_limit() -> None:
    limits = Limits(max_depth=3)
    model = scripted(f"1. {HEIGHT_NAME}({height('K2')})", "FINISH: 8611")
    end = end_of(await solved(model, "LLMCompiler", Sums(), limits=limits))
    assert end.answer == "8611"
    assert "no more can be made" in question(model.requests[1])


async def test_an_instruction_that_needs_no_call_is_answered() -> None:
    end = end_of(await solved(scripted("1. join()", "FINISH: 42"), "LLMCompiler", Sums()))
    assert (end.answer, end.tool_calls) == ("42", 0)


async def test_a_cycle_is_not_waited_for() -> None:
    plan = f'1. {MINUS_NAME}({{"a": "$2", "b": 1}})\n2. {MINUS_NAME}({{"a": "$1", "b": 1}})'
    world = Sums()
    model = scripted(plan, "FINISH: unknown")
    events = await solved(model, "LLMCompiler", world, mode="parallel")
    assert [status for status, _ in observations(events)] == [CallStatus.INVALID_ARGUMENTS] * 2
    assert (end_of(events).kind, world.calls) == ("answered", [])


async def test_a_budget_in_the_middle_keeps_the_calls_that_were_made() -> None:
    limits = Limits(max_depth=100, max_tool_calls=2)
    model = ScriptedModel(lambda _: words(PLAN))
    end = end_of(await solved(model, "LLMCompiler", Sums(), limits=limits))
    assert (end.kind, end.limit, end.tool_calls) == ("exhausted", "max_tool_calls", 2)
    (chain,) = [tried["chain"] for tried in end.record["trys"]]
    assert [node["node_type"] for node in chain] == ["Thought", *["Action", "Action Input"] * 2]


async def test_a_call_is_not_waited_for_when_one_that_it_needs_was_refused() -> None:
    limits = Limits(max_depth=100, max_tool_calls=1)
    model = ScriptedModel(lambda _: words(PLAN))
    with anyio.fail_after(5):
        end = end_of(await solved(model, "LLMCompiler", Sums(), limits=limits, mode="parallel"))
    assert (end.kind, end.limit, end.tool_calls) == ("exhausted", "max_tool_calls", 1)
    (chain,) = [tried["chain"] for tried in end.record["trys"]]
    assert [node["node_type"] for node in chain] == ["Thought", "Action", "Action Input"]


async def test_without_a_plan_the_run_gives_up() -> None:
    end = end_of(await solved(scripted("?", "?"), "LLMCompiler", Sums()))
    assert (end.kind, end.llm_calls) == ("gave_up", 2)


@pytest.mark.parametrize(
    ("text", "is_final", "said"),
    [
        ("FINISH: 42", True, "42"),
        ("Thought: enough.\n**Finish**: 42", True, "42"),
        ("Action: Finish: 42\nand more", True, "42\nand more"),
        ("Replan: the price is missing", False, "the price is missing"),
        ("Thought: no.\nREPLAN", False, ""),
        ("The answer is 42.", True, "The answer is 42."),
        ("Finish the soup.", True, "Finish the soup."),
        ("", True, ""),
    ],
)
def test_decisions(text: str, is_final: bool, said: str) -> None:
    assert read_decision(text) == (is_final, said)
