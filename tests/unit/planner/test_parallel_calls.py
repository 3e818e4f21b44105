"""Several calls of one reply in mode `parallel`."""

import asyncio
import json

import pytest

from services.contracts.planner import Mode, SolveRequest, ToolFinished, ToolStarted
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.service import PlannerService
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
    reply,
)

pytestmark = pytest.mark.anyio


class MeetingTools(FakeToolEnv):
    """Answers a call only once `together` calls are there, so that one alone would hang."""

    def __init__(self, *, together: int, **changes: object) -> None:
        super().__init__([document(HELLO), document(OTHER, **changes)])
        self._barrier = asyncio.Barrier(together)

    async def invoke(self, call: ToolCall) -> Observation:
        self.calls.append(call)
        async with asyncio.timeout(2):
            await self._barrier.wait()
        content = json.dumps({"error": "", "response": call.api.api})
        return Observation(status=CallStatus.OK, content=content, source="custom")


async def run(tools: FakeToolEnv, mode: Mode, *calls: tuple[str, str]) -> list:
    model = ScriptedModel([reply(*calls), answer("done")])
    planner = PlannerService(model=model, toolenv=tools, retriever=None)
    request = SolveRequest(
        instruction="both",
        method="react",
        apis=(HELLO, OTHER),
        mode=mode,
        allow_writes=True,
        record=True,
    )
    return await events_of(planner, request)


async def test_reads_of_one_reply_go_on_at_once_and_stand_in_the_replys_order() -> None:
    tools = MeetingTools(together=2)
    events = await run(tools, "parallel", (HELLO_NAME, "{}"), (OTHER_NAME, "{}"))
    end = end_of(events)
    assert end.kind == "answered"
    said = [m.content for m in end.solution_path if m.role == "tool"]
    assert ["get_hello_world" in said[0], "other" in said[1]] == [True, True]
    started = [event.input_node_id for event in events if isinstance(event, ToolStarted)]
    assert started == sorted(started)
    assert sum(isinstance(event, ToolFinished) for event in events) == len(started)


async def test_the_record_is_that_of_calls_made_one_after_the_other() -> None:
    calls = ((HELLO_NAME, "{}"), (OTHER_NAME, "{}"))
    at_once = end_of(await run(FakeToolEnv(), "parallel", *calls)).record
    in_turn = end_of(await run(FakeToolEnv(), "exact", *calls)).record
    assert at_once.pop("toolwright") != in_turn.pop("toolwright")
    assert at_once == in_turn


async def test_what_changes_something_is_made_in_its_turn() -> None:
    tools = MeetingTools(together=1, method="POST")
    await run(tools, "parallel", (HELLO_NAME, "{}"), (OTHER_NAME, "{}"), (HELLO_NAME, '{"a": 1}'))
    assert [call.api for call in tools.calls][:2] == [HELLO, OTHER]
