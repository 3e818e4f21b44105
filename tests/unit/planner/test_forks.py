"""Forks: a new run from a node of a kept one, with one thing changed."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.contracts.errors import InvalidArgument, NotFound
from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import (
    ExpansionStarted,
    ForkedAction,
    ForkRequest,
    Limits,
    PlanEvent,
    RunEnded,
    ToolFinished,
)
from services.contracts.toolenv import CallStatus
from tests.fakes.kept_runs import World, heard, request
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
    give_up,
    number,
    reply,
)

pytestmark = pytest.mark.anyio

# The tree of every run here: 0 root, 1 thought, 2 action, 3 input, 4 action, 5 input (two calls of
# one reply), 6 action, 7 input (a second reply), 8 and 9 Finish.
FIRST, SECOND, THIRD, FINISH = 3, 5, 7, 9
WRITES = [
    document(ref, method="POST", optional_parameters=(number("n"),)) for ref in (HELLO, OTHER)
]


def script(request: ChatRequest) -> Message:
    """Two calls with a thought, one without, and an answer that tells the last observation."""
    tools = [message for message in request.messages if message.role == "tool"]
    if not tools:
        two = [(HELLO_NAME, '{"n": 1}'), (HELLO_NAME, '{"n": 2}')]
        return reply(*two, thought="let us see")
    if len(tools) < 3:
        return reply((OTHER_NAME, json.dumps({"n": len(tools) + 1})))
    return answer(f"after {tools[-1].content}")


async def original(tmp_path: Path) -> World:
    world = World(tmp_path, script)
    await heard(world.planner().solve(request("CoT@1", limits={"max_depth": 30})))
    return world


async def forked(world: World, node_id: int, **changes: object) -> list[PlanEvent]:
    values = {"run_id": "r", "node_id": node_id, "new_run_id": "f"}
    return await heard(world.planner().fork(ForkRequest.model_validate(values | changes)))


def observations(events: Sequence[PlanEvent]) -> list[str]:
    return [e.observation for e in events if isinstance(e, ToolFinished) and e.source is not None]


def path_of(end: RunEnded) -> list[tuple[str, str]]:
    """Type and description of every node of the one chain in an answer file."""
    assert end.record is not None
    chain = end.record["trys"][0]["chain"]
    return [(node["node_type"], node["description"]) for node in chain]


async def test_a_fork_goes_on_below_the_node_and_asks_nothing_of_the_path(tmp_path: Path) -> None:
    world = await original(tmp_path)
    asked = world.asked
    events = await forked(world, SECOND)
    assert world.asked == (asked[0] + 2, asked[1] + 1)
    assert len(path_of(end_of(events))) == 9
    started = next(event for event in events if isinstance(event, ExpansionStarted))
    assert (started.node_id, started.depth) == (5, 5)
    assert [entry.message.role for entry in started.messages] == [
        *("system", "user", "assistant", "tool", "tool")
    ]


async def test_an_edited_action_is_carried_out_in_its_place(tmp_path: Path) -> None:
    world = await original(tmp_path)
    action = ForkedAction(function=OTHER_NAME, arguments='{"n": 7}')
    events = await forked(world, SECOND, action=action)
    assert world.toolenv.calls[3].arguments_text == '{"n": 7}'
    assert "other" in observations(events)[0]
    assert ("Action Input", '{"n": 7}') in path_of(end_of(events))
    assert ("Action Input", '{"n": 2}') not in path_of(end_of(events))
    shown = world.model.requests[3].messages
    assert [call.arguments for call in shown[2].tool_calls] == ['{"n": 1}', '{"n": 7}']
    assert shown[-1].content == observations(events)[0]


async def test_an_edited_action_cuts_the_later_calls_of_its_reply(tmp_path: Path) -> None:
    world = await original(tmp_path)
    await forked(world, FIRST, action=ForkedAction(function=OTHER_NAME, arguments='{"n": 7}'))
    shown = world.model.requests[3].messages
    assert [call.name for call in shown[2].tool_calls] == [OTHER_NAME]
    assert [message.role for message in shown[3:]] == ["tool"]


async def test_an_edited_observation_is_what_the_model_sees(tmp_path: Path) -> None:
    world = await original(tmp_path)
    calls = len(world.toolenv.calls)
    events = await forked(world, THIRD, observation="it snows")
    assert end_of(events).answer == "after it snows"
    assert len(world.toolenv.calls) == calls


async def test_another_method_goes_on_below_the_node(tmp_path: Path) -> None:
    world = await original(tmp_path)
    end = end_of(await forked(world, SECOND, method="DFS_woFilter_w2"))
    assert end.record is not None
    assert "tree" in end.record
    assert end.kind == "answered"


async def test_every_chain_of_a_forked_run_starts_at_the_node(tmp_path: Path) -> None:
    world = await original(tmp_path)
    deep = {"max_depth": 5}
    action = ForkedAction(function=OTHER_NAME, arguments='{"n": 7}')
    calls = len(world.toolenv.calls)
    end = end_of(await forked(world, SECOND, method="CoT@2", action=action, limits=deep))
    assert end.record is not None
    assert len(end.record["trys"]) == 2
    assert len(world.toolenv.calls) == calls + 1


async def test_another_action_space_holds_from_the_node_on(tmp_path: Path) -> None:
    world = await original(tmp_path)
    await forked(world, SECOND, apis=(OTHER,))
    assert [tool.name for tool in world.model.requests[3].tools] == [OTHER_NAME, "Finish"]
    assert world.model.requests[3].messages[2].tool_calls[0].name == HELLO_NAME


async def test_limits_and_seed_are_the_forks_own(tmp_path: Path) -> None:
    world = await original(tmp_path)
    end = end_of(await forked(world, SECOND, limits={"max_llm_calls": 1}, seed=5))
    assert end.kind == "exhausted"
    assert end.llm_calls == 1
    assert world.model.requests[3].seed == 5


async def test_a_thought_is_gone_on_from(tmp_path: Path) -> None:
    world = await original(tmp_path)
    await forked(world, 1)
    shown = world.model.requests[3].messages
    assert [(message.role, message.content) for message in shown[2:]] == [
        ("assistant", "let us see")
    ]


async def test_a_forked_run_is_replayed_resumed_and_forked_like_any(tmp_path: Path) -> None:
    world = await original(tmp_path)
    action = ForkedAction(function=OTHER_NAME, arguments='{"n": 7}')
    told = await forked(world, SECOND, action=action)
    asked = world.asked
    assert await heard(world.planner().replay("f")) == told
    assert world.asked == asked
    lines = world.file("f").read_bytes().splitlines(keepends=True)
    world.file("f").write_bytes(b"".join(lines[:-2]))
    resumed = await heard(world.planner().resume("f"))
    assert end_of(resumed).record == end_of(told).record
    assert world.asked == (asked[0] + 1, asked[1])
    again = ForkRequest(run_id="f", node_id=7, new_run_id="g", observation="it rains")
    assert end_of(await heard(world.planner().fork(again))).answer == "after it rains"


async def test_a_fork_says_where_it_comes_from(tmp_path: Path) -> None:
    world = await original(tmp_path)
    await forked(world, SECOND)
    assert {run.run_id: run.forked_from for run in await world.planner().runs()} == {
        "r": None,
        "f": "r",
    }


@pytest.mark.parametrize(
    ("node_id", "changes", "message"),
    [
        (2, {}, "name of a call"),
        (1, {"observation": "x"}, "no call"),
        (0, {"action": {"function": HELLO_NAME, "arguments": "{}"}}, "no call"),
        (FINISH, {}, "ends its path"),
        (FINISH, {"observation": "x"}, "ends its path"),
        (FIRST, {"action": {"function": "Finish", "arguments": "{}"}}, "leaves nothing"),
        (
            FIRST,
            {"observation": "x", "action": {"function": HELLO_NAME, "arguments": "{}"}},
            "an action or an observation",
        ),
        (FIRST, {"method": "nonesuch"}, "unknown method"),
    ],
)
async def test_what_cannot_be_changed_is_refused(
    tmp_path: Path, node_id: int, changes: dict[str, object], message: str
) -> None:
    world = await original(tmp_path)
    with pytest.raises(InvalidArgument, match=message):
        await forked(world, node_id, **changes)
    assert not world.file("f").exists()


async def test_an_action_that_is_no_function_is_refused_with_near_names_and_not_kept(
    tmp_path: Path,
) -> None:
    world = await original(tmp_path)
    action = ForkedAction(function=f"{OTHER_NAME}x", arguments="{}")
    with pytest.raises(InvalidArgument, match=f"mean .*{OTHER_NAME}"):
        await forked(world, FIRST, action=action)
    assert not world.file("f").exists()


async def test_a_node_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    world = await original(tmp_path)
    with pytest.raises(NotFound, match="no node 99"):
        await forked(world, 99)


@pytest.mark.parametrize("method", ["CoT@2", "DFS_woFilter_w2"])
async def test_a_change_of_the_path_is_not_made_again(tmp_path: Path, method: str) -> None:
    world = World(tmp_path, script, toolenv=FakeToolEnv(WRITES))
    deep = Limits(max_depth=30)
    await heard(world.planner().solve(request("CoT@1", limits=deep, allow_writes=True)))
    calls = len(world.toolenv.calls)
    world.model = ScriptedModel(
        [reply((HELLO_NAME, '{"n": 2}')), give_up(), reply((HELLO_NAME, '{"n": 2}')), answer("x")]
    )
    events = await forked(world, SECOND, method=method)
    assert len(world.toolenv.calls) == calls
    repeated = [event for event in events if isinstance(event, ToolFinished)][0]
    assert repeated.status is CallStatus.NOT_ALLOWED
    assert end_of(events).kind == "answered"


async def test_a_call_that_the_path_shows_as_refused_may_be_made(tmp_path: Path) -> None:
    world = World(tmp_path, script, toolenv=FakeToolEnv(WRITES))
    await heard(world.planner().solve(request("CoT@1", limits=Limits(max_depth=30))))
    world.model = ScriptedModel([reply((HELLO_NAME, '{"n": 2}')), answer("x")])
    await forked(world, SECOND, allow_writes=True)
    assert [call.arguments_text for call in world.toolenv.calls] == ['{"n": 2}']
