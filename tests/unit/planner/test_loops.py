"""Branches that run in circles."""

import pytest

from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.llm import Message
from services.contracts.planner import Limits, RunEnded, SolveRequest, ToolFinished
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.loops import is_loop
from services.planner.service import PlannerService
from services.planner.tree import Node, NodeFactory, NodeType, extend
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    OTHER_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    reply,
)

pytestmark = pytest.mark.anyio


def path(*calls: tuple[str, str, str]) -> Node:
    """The leaf of a path of (function, arguments, observation)."""
    nodes = NodeFactory()
    leaf = nodes.root(extend(None, Message(role="user", content="x")))
    for function, arguments, observation in calls:
        action = nodes.child(leaf, NodeType.ACTION, function)
        leaf = nodes.child(action, NodeType.ACTION_INPUT, arguments)
        leaf.observation = observation
    return leaf


SAME = ("f", '{"a": 1, "b": 2}', "nothing")


def test_the_third_equal_call_closes_a_loop() -> None:
    assert is_loop(path(SAME, SAME, SAME))
    assert not is_loop(path(SAME, SAME))


def test_other_calls_between_do_not_break_it_and_keys_may_change_places() -> None:
    assert is_loop(path(SAME, ("g", "{}", "x"), SAME, ("f", '{"b":2,"a":1}', "nothing")))


@pytest.mark.parametrize(
    "other",
    [("g", SAME[1], SAME[2]), (SAME[0], '{"a": 2}', SAME[2]), (SAME[0], SAME[1], "something")],
)
def test_another_function_argument_or_observation_is_none(other: tuple[str, str, str]) -> None:
    assert not is_loop(path(SAME, SAME, other))
    assert not is_loop(path(SAME, other, SAME))


def test_arguments_that_are_no_json_are_compared_as_text() -> None:
    assert is_loop(path(*[("f", "{broken", "error")] * 3))


async def run(model: ScriptedModel, compat: Compat, method: str = "CoT@1") -> list[object]:
    request = SolveRequest(
        instruction="say hello",
        method=method,
        apis=(HELLO, OTHER),
        compat=compat,
        limits=Limits(max_depth=12, max_llm_calls=30),
    )
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    return list(await events_of(planner, request))


def stuck(finish: bool) -> ScriptedModel:
    """Makes one call for ever; answers only when nothing but Finish is offered."""

    def say(request: object) -> Message:
        tools = getattr(request, "tools", ())
        return answer("hi") if finish and len(tools) == 1 else reply((HELLO_NAME, "{}"))

    return ScriptedModel(say)


async def test_a_chain_that_repeats_itself_ends_as_a_loop() -> None:
    events = await run(stuck(finish=False), NONE)
    end = events[-1]
    assert isinstance(end, RunEnded)
    assert (end.kind, end.limit, end.answer) == ("exhausted", "loop", None)
    assert sum(isinstance(event, ToolFinished) for event in events) == 3


async def test_with_the_quirk_it_goes_on_to_the_depth_limit() -> None:
    events = await run(stuck(finish=False), TOOLBENCH)
    end = events[-1]
    assert isinstance(end, RunEnded)
    assert (end.kind, end.limit) == ("exhausted", "max_depth")
    assert sum(isinstance(event, ToolFinished) for event in events) == 6


async def test_a_loop_ends_its_branch_only_and_the_search_goes_back() -> None:
    replies = [reply((HELLO_NAME, "{}"))] * 3 + [reply((OTHER_NAME, "{}")), answer("found")]
    events = await run(ScriptedModel(replies), NONE, "DFS_woFilter_w2")
    assert end_of(events).kind == "answered"  # type: ignore[arg-type]


async def test_changing_observations_are_no_loop() -> None:
    count = iter(range(100))

    def counting(call: ToolCall) -> Observation:
        return Observation(status=CallStatus.OK, content=str(next(count)), source="custom")

    request = SolveRequest(
        instruction="wait", method="CoT@1", apis=(HELLO,), limits=Limits(max_depth=40)
    )
    model = ScriptedModel([*[reply((HELLO_NAME, "{}"))] * 6, answer("done")])
    planner = PlannerService(model=model, toolenv=FakeToolEnv(answers=counting), retriever=None)
    assert end_of(await events_of(planner, request)).kind == "answered"
