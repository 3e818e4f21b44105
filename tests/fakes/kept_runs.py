"""A planner that keeps its runs, over a world that counts what it is asked."""

import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import Limits, PlanEvent, SolveRequest
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.journal.shelf import Shelf
from services.planner.service import PlannerOptions, PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    OTHER_NAME,
    FakeRetriever,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    give_up,
    number,
    reply,
)

DOCUMENTS = [document(ref, optional_parameters=(number("n"),)) for ref in (HELLO, OTHER)]


def drawn(seed: int) -> Callable[[ChatRequest], Message]:
    """A model whose replies look random, and are a function of the conversation."""

    def reply_to(request: ChatRequest) -> Message:
        text = "".join(message.model_dump_json() for message in request.messages)
        digest = hashlib.sha256(f"{seed}{text}".encode()).digest()
        draw = random.Random(digest)
        thought = draw.choice([None, "hm"])
        name = draw.choice([HELLO_NAME, OTHER_NAME])
        count = draw.choice([1, 1, 2])
        calls = [(name, json.dumps({"n": draw.randrange(3)})) for _ in range(count)]
        return draw.choice(
            [
                *[lambda: reply(*calls, thought=thought)] * 6,
                lambda: reply(thought="just a thought"),
                lambda: give_up(thought),
                lambda: reply(("nonesuch", "{}")),
                lambda: answer("done", thought),
            ]
        )()

    return reply_to


def echo(call: ToolCall) -> Observation:
    content = json.dumps({"error": "", "response": f"{call.api.api} {call.arguments_text}"})
    return Observation(status=CallStatus.OK, content=content, source="custom", latency_s=0.5)


class World:
    """Ports that count, and planners over them that keep their runs in one folder."""

    def __init__(
        self,
        folder: Path,
        replies: Callable[[ChatRequest], Message] | None = None,
        *,
        toolenv: FakeToolEnv | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.folder = folder
        self.model = ScriptedModel(replies or drawn(0), delay_s=delay_s)
        self.toolenv = toolenv or FakeToolEnv(DOCUMENTS, answers=echo)

    def planner(self, **options: object) -> PlannerService:
        return PlannerService(
            model=self.model,
            toolenv=self.toolenv,
            retriever=FakeRetriever([HELLO]),
            options=PlannerOptions(**options),
            shelf=Shelf(self.folder),
        )

    def file(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.jsonl"

    @property
    def asked(self) -> tuple[int, int]:
        """Requests to the model and to tools so far."""
        return len(self.model.requests), len(self.toolenv.calls)


def request(method: str = "DFS_woFilter_w2", **changes: object) -> SolveRequest:
    values: dict[str, object] = {
        "instruction": "say hello",
        "method": method,
        "apis": (HELLO, OTHER),
        "limits": Limits(max_depth=9, max_llm_calls=12),
        "run_id": "r",
        "record": True,
    }
    return SolveRequest.model_validate(values | changes)


async def heard(events: AsyncIterator[PlanEvent]) -> list[PlanEvent]:
    """All events."""
    async with aclosing(events) as stream:
        return [event async for event in stream]
