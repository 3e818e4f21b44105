"""Changes that are under way when their run ends: none of them vanishes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from services.contracts.apis import ApiDocument, InverseCall
from services.contracts.errors import ServiceError, Unavailable
from services.contracts.ids import RunId
from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import Limits, PlanEvent, SolveRequest, ToolFinished
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.journal.shelf import Shelf
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
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio

RUN = RunId("r")
SHORT = Limits(deadline_s=0.05)


class Hanging(FakeToolEnv):
    """`hello` changes something and is never seen to end; `other` reads, and fails once it runs."""

    def __init__(
        self,
        hello: ApiDocument | None = None,
        *,
        hangs_from: int = 1,
        error: ServiceError | None = None,
    ) -> None:
        super().__init__([hello or document(HELLO, method="POST"), document(OTHER)])
        self.has_begun = asyncio.Event()
        self._hangs_from = hangs_from
        self._error_of_other = error

    async def invoke(self, call: ToolCall) -> Observation:
        if call.api == OTHER:
            await self.has_begun.wait()
            assert self._error_of_other is not None
            raise self._error_of_other
        observation = await super().invoke(call)
        if len(self.calls) >= self._hangs_from:
            self.has_begun.set()
            await anyio.sleep_forever()
        return observation


def write_then_tell(request: ChatRequest) -> Message:
    tools = [message.content or "" for message in request.messages if message.role == "tool"]
    return answer(tools[-1]) if tools else reply((HELLO_NAME, "{}"))


def planner(toolenv: FakeToolEnv, folder: Path | None = None) -> PlannerService:
    return PlannerService(
        model=ScriptedModel(write_then_tell),
        toolenv=toolenv,
        retriever=None,
        shelf=Shelf(folder) if folder is not None else None,
    )


def request(method: str = "CoT@1", **changes: object) -> SolveRequest:
    values: dict[str, object] = {
        "instruction": "say hello",
        "apis": (HELLO, OTHER),
        "allow_writes": True,
        "method": method,
        "run_id": RUN,
    }
    return SolveRequest.model_validate(values | changes)


def finished(events: list[PlanEvent]) -> list[ToolFinished]:
    return [event for event in events if isinstance(event, ToolFinished)]


async def cancelled(
    events: AsyncGenerator[PlanEvent, None], toolenv: Hanging, service: PlannerService
) -> list[PlanEvent]:
    """Everything told of a run that is cancelled while it changes something."""
    told = []
    with anyio.fail_after(5):
        async with aclosing(events):
            async for event in events:
                told.append(event)
                if event.kind == "tool_started":
                    await toolenv.has_begun.wait()
                    await service.cancel(RUN)
    return told


async def test_a_change_that_the_deadline_interrupts_is_told_and_named() -> None:
    events = await events_of(planner(Hanging()), request(limits=SHORT))
    (told,) = finished(events)
    assert "whether it took effect is not known" in told.observation
    assert told.status is CallStatus.REQUEST_FAILED
    end = end_of(events)
    assert (end.kind, end.limit) == ("exhausted", "deadline_s")
    assert end.reason is not None and f"{HELLO} with {{}}" in end.reason


async def test_a_read_that_the_deadline_interrupts_is_not() -> None:
    events = await events_of(planner(Hanging(document(HELLO))), request(limits=SHORT))
    assert not finished(events)
    assert end_of(events).reason == "deadline_s=0.05 was reached"


async def test_a_change_that_cancelling_interrupts_is_told_and_named() -> None:
    toolenv = Hanging()
    service = planner(toolenv)
    events = await cancelled(service.solve(request()), toolenv, service)
    assert [event.kind for event in events[-2:]] == ["tool_finished", "cancelled"]
    assert str(HELLO) in (end_of(events).reason or "")


async def test_a_change_that_a_failing_sibling_interrupts_is_told_and_named() -> None:
    plan = f"1. {HELLO_NAME}({{}})\n2. {OTHER_NAME}({{}})\njoin()"
    model = ScriptedModel([Message(role="assistant", content=plan)])
    toolenv = Hanging(error=Unavailable("the other is down"))
    service = PlannerService(model=model, toolenv=toolenv, retriever=None)
    events = await events_of(service, request("LLMCompiler", mode="parallel"))
    assert [event.call_id for event in finished(events)] == [1]
    end = end_of(events)
    assert end.kind == "failed"
    assert end.reason is not None and end.reason.startswith("the other is down; ")
    assert str(HELLO) in end.reason


async def test_an_equal_change_that_waits_is_not_made_after_an_interrupted_one() -> None:
    plan = f"1. {HELLO_NAME}({{}})\n2. {HELLO_NAME}({{}})\njoin()"
    model = ScriptedModel([Message(role="assistant", content=plan)])
    toolenv = Hanging()
    service = PlannerService(model=model, toolenv=toolenv, retriever=None)
    await events_of(service, request("LLMCompiler", mode="parallel", limits=SHORT))
    assert len(toolenv.calls) == 1


async def test_an_interrupted_inverse_call_is_told_and_named() -> None:
    hello = document(HELLO, method="POST", inverse=InverseCall(api=HELLO))
    toolenv = Hanging(hello, hangs_from=2)
    model = ScriptedModel([reply((HELLO_NAME, "{}")), give_up()])
    service = PlannerService(model=model, toolenv=toolenv, retriever=None)
    events = await events_of(service, request("DFS_woFilter_w1", limits=SHORT))
    assert [event.status for event in finished(events)] == [
        *(CallStatus.OK, CallStatus.GAVE_UP, CallStatus.REQUEST_FAILED)
    ]
    assert str(HELLO) in (end_of(events).reason or "")


async def test_the_replay_of_an_interrupted_change_tells_the_same(tmp_path: Path) -> None:
    service = planner(Hanging(), tmp_path)
    events = await events_of(service, request(limits=SHORT))
    assert [event async for event in service.replay(RUN)] == events


async def test_the_replay_of_a_cancelled_change_tells_the_same(tmp_path: Path) -> None:
    toolenv = Hanging()
    service = planner(toolenv, tmp_path)
    events = await cancelled(service.solve(request()), toolenv, service)
    assert [event async for event in service.replay(RUN)] == events


async def test_a_run_cancelled_in_a_change_goes_on_without_repeating_it(tmp_path: Path) -> None:
    toolenv = Hanging()
    service = planner(toolenv, tmp_path)
    await cancelled(service.solve(request()), toolenv, service)
    end = end_of([event async for event in service.resume(RUN)])
    assert end.kind == "answered"
    assert "whether it took effect is not known" in (end.answer or "")
    assert len(toolenv.calls) == 1
