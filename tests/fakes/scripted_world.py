"""A scripted model and its tools, for measuring planners: pure functions of what they are asked.

Instructions differ in temper, by a hash: most are answered after a few calls, some are given up on
again and again, a few never end. So every search meets easy trees, trees that back-track, replies
with several calls, invented functions, and one run that uses up its budget.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.llm import (
    ChatRequest,
    Completion,
    CompletionDelta,
    Message,
    MessageToolCall,
    ModelInfo,
    Usage,
)
from services.contracts.toolenv import CallStatus, Observation, ToolCall

TEMPERS: Final = (
    ("steady", 34),
    ("stubborn", 32),
    ("broad", 12),
    ("confused", 10),
    ("hopeless", 8),
    ("endless", 4),
)
"""Kinds of instructions with their shares, percent."""
_GIVES_UP: Final = {"steady": 10, "stubborn": 65, "broad": 35, "confused": 35, "hopeless": 100}
"""How often a chain ends without an answer, percent."""


def draw(*parts: object) -> int:
    """A number that depends on the parts only, evenly spread."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())


def temper_of(seed: int, instruction: str) -> str:
    """The kind of an instruction."""
    left = draw(seed, "temper", instruction) % 100
    for name, share in TEMPERS:
        if left < share:
            return name
        left -= share
    raise AssertionError("the shares do not sum up to 100")


def reply_to(seed: int, request: ChatRequest) -> Message:
    """The next step of a conversation."""
    messages = request.messages
    instruction = next(m.content or "" for m in messages if m.role == "user")
    temper = temper_of(seed, instruction)
    path = "\x1e".join(
        f"{m.role}{m.content}{[(c.name, c.arguments) for c in m.tool_calls]}" for m in messages[2:]
    )
    here = draw(seed, instruction, path)
    n_calls = sum(bool(m.tool_calls) for m in messages)
    names = [tool.name for tool in request.tools if tool.name != "Finish"] or ["nothing"]
    thought = f"step {n_calls}: {here:x}" if here % 3 == 0 else None
    if temper != "endless" and n_calls > draw(seed, "length", instruction) % 3:
        return _finish(here, gives_up=draw(here, "end") % 100 < _GIVES_UP[temper], thought=thought)
    if temper == "confused" and draw(here, "slip") % 100 < 20:
        names = [f"no_such_function_{here % 7}"]
    width = 2 + here % 2 if temper == "broad" and draw(here, "width") % 2 else 1
    calls = [
        (names[(here + n) % len(names)], json.dumps({"q": here % 97 + n})) for n in range(width)
    ]
    return _message(here, calls, thought)


def _finish(here: int, *, gives_up: bool, thought: str | None) -> Message:
    fields = {"return_type": "give_up_and_restart"}
    if not gives_up:
        fields = {"return_type": "give_answer", "final_answer": f"answer {here:x}"}
    return _message(here, [("Finish", json.dumps(fields))], thought)


def _message(here: int, calls: list[tuple[str, str]], thought: str | None) -> Message:
    made = tuple(
        MessageToolCall(id=f"call_{here:x}_{n}", name=name, arguments=arguments)
        for n, (name, arguments) in enumerate(calls)
    )
    return Message(role="assistant", content=thought, tool_calls=made)


class ScriptedModel:
    """A `ChatModel` that takes its time.

    Attributes:
        calls: How often it was asked.
        in_flight: How many of them are not answered yet.
        own_s: Processor seconds that the script itself took.
    """

    def __init__(self, seed: int, *, latency_s: float = 0.0) -> None:
        self.calls = 0
        self.in_flight = 0
        self.own_s = 0.0
        self._seed = seed
        self._latency_s = latency_s

    async def complete(self, request: ChatRequest) -> Completion:
        self.calls += 1
        self.in_flight += 1
        try:
            await asyncio.sleep(self._latency_s)
        finally:
            self.in_flight -= 1
        began = time.thread_time()
        message = reply_to(self._seed, request)
        self.own_s += time.thread_time() - began
        return Completion(message=message, usage=Usage(prompt_tokens=100, completion_tokens=10))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        yield CompletionDelta(completion=await self.complete(request))

    async def describe(self) -> ModelInfo:
        return ModelInfo(model="scripted")


class ScriptedTools:
    """A `ToolCaller` over any documents; the same call always has the same answer."""

    def __init__(self, documents: Sequence[ApiDocument]) -> None:
        self._documents = {document.ref: document for document in documents}

    async def describe(self, refs: Sequence[ApiRef]) -> list[ApiDocument]:
        return [self._documents[ref] for ref in refs if ref in self._documents]

    async def invoke(self, call: ToolCall) -> Observation:
        number = draw(call.api, call.arguments_text)
        error = "API not working error..." if number % 10 == 0 else ""
        body = {"error": error, "response": f"item {number % 1000} " * (number % 40)}
        status = CallStatus.API_NOT_WORKING if error else CallStatus.OK
        return Observation(status=status, content=json.dumps(body), source="custom")
