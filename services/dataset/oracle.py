"""The oracle: a policy that solves bundled instructions, used to make training data.

It is a `ChatModel`, so that the real planner, prompts, tools and search run around it. It knows the
plan of every registered instruction and reads everything else from the conversation, as a model
would. It makes the mistakes worth learning from: of two overlapping APIs it tries either first; a
failed call makes it try the other or give up, so that the search goes back; now and then it makes a
wrong call (never trained on) and recovers.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from pydantic import JsonValue

from services.contracts.errors import InvalidArgument
from services.contracts.llm import (
    ChatRequest,
    Completion,
    CompletionDelta,
    FunctionSchema,
    Message,
    MessageToolCall,
    ModelInfo,
)
from services.contracts.toolbench.names import function_name
from services.dataset.instructions import Instruction, bind_results, call_arguments, fill
from services.dataset.intents import PlannedCall, Step

_GIVE_UP_AFTER_FAILURE = 0.5
_MISTAKE = 0.06
_FAILED_THOUGHT = "That failed, try another way."
_GIVE_UP_THOUGHT = "That failed, go back."
_ANSWER_THOUGHT = "Give the answer."


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the oracle and what it replied to."""

    request: ChatRequest
    reply: Message
    is_mistake: bool
    is_reexpansion: bool


@dataclass(slots=True)
class _Progress:
    """Where a conversation stands."""

    values: dict[str, str]
    step: int = 0
    failed: set[str] = field(default_factory=set)
    """Function names that failed at the current step."""
    last_failed: bool = False


class OracleModel:
    """See the module. Safe for concurrent runs of different instructions."""

    def __init__(self, *, seed: int, mistake_rate: float = _MISTAKE) -> None:
        self._seed = seed
        self._mistake_rate = mistake_rate
        self._instructions: dict[str, Instruction] = {}
        self._turns: dict[str, list[Turn]] = {}

    def register(self, instruction: Instruction) -> None:
        """Make an instruction known before it is solved."""
        self._instructions[instruction.text] = instruction
        self._turns[instruction.text] = []

    def take_turns(self, instruction: Instruction) -> list[Turn]:
        """Turns taken for an instruction, in order; forgets it."""
        del self._instructions[instruction.text]
        return self._turns.pop(instruction.text)

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`.

        Raises:
            InvalidArgument: The instruction is not registered.
        """
        text = _instruction_text(request)
        instruction = self._instructions.get(text)
        if instruction is None:
            raise InvalidArgument(f"the oracle does not know the instruction {text!r}")
        turn = self._reply(request, instruction)
        self._turns[text].append(turn)
        return Completion(message=turn.reply, finish_reason="tool_calls")

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """See `ChatModel.stream`; one piece."""
        yield CompletionDelta(completion=await self.complete(request))

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`."""
        return ModelInfo(model="oracle", engine="oracle", follows_instructions=False)

    def _reply(self, request: ChatRequest, instruction: Instruction) -> Turn:
        earlier = _earlier_candidates(request)
        progress = _read_progress(request, instruction)
        key = json.dumps([m.model_dump() for m in request.messages], sort_keys=True)
        chance = _Chance(f"{self._seed}:{key}")
        plan = instruction.intent.plan
        if progress.step == len(plan):
            reply = _finish(_ANSWER_THOUGHT, fill(instruction.intent.answer.text, progress.values))
            return Turn(request, reply, is_mistake=False, is_reexpansion=bool(earlier))
        step = plan[progress.step]
        mistake = None if progress.last_failed or earlier else self._mistake(request, step, chance)
        reply = mistake or _next_call(request, instruction, step, progress, earlier, chance)
        return Turn(request, reply, is_mistake=mistake is not None, is_reexpansion=bool(earlier))

    def _mistake(self, request: ChatRequest, step: Step, chance: "_Chance") -> Message | None:
        """A call of an API that does not help, now and then."""
        right = {_function(call) for call in step.calls}
        wrong = [tool for tool in request.tools if tool.name not in right and tool.name != "Finish"]
        if not wrong or chance.next() >= self._mistake_rate:
            return None
        return _call(step.thought, wrong[int(chance.next() * len(wrong))].name, {})


class _Chance:
    """Deterministic numbers in [0, 1) from a text: the same conversation gives the same reply."""

    def __init__(self, key: str) -> None:
        self._draws = self._generate(key)

    @staticmethod
    def _generate(key: str) -> Iterator[float]:
        counter = 0
        while True:
            digest = hashlib.sha256(f"{counter}:{key}".encode()).digest()
            yield int.from_bytes(digest[:8], "big") / 2**64
            counter += 1

    def next(self) -> float:
        """The next number."""
        return next(self._draws)


def _next_call(
    request: ChatRequest,
    instruction: Instruction,
    step: Step,
    progress: _Progress,
    earlier: set[str],
    chance: _Chance,
) -> Message:
    """A call that has not failed yet; else, or sometimes after a failure, a give-up."""
    offered = {tool.name: tool for tool in request.tools}
    tried = progress.failed | earlier
    left = [
        call for call in step.calls if _function(call) in offered and _function(call) not in tried
    ]
    if not left or (progress.last_failed and chance.next() < _GIVE_UP_AFTER_FAILURE):
        return _finish(_GIVE_UP_THOUGHT, None)
    call = left[int(chance.next() * len(left))]
    arguments = call_arguments(call, instruction.intent, progress.values)
    thought = _FAILED_THOUGHT if progress.last_failed or earlier else step.thought
    return _call(thought, _function(call), _in_schema_order(arguments, offered[_function(call)]))


def _in_schema_order(
    arguments: dict[str, JsonValue], schema: FunctionSchema
) -> dict[str, JsonValue]:
    """Arguments in the order in which the model sees the parameters."""
    properties = schema.parameters.get("properties")
    order = list(properties) if isinstance(properties, dict) else []
    return {name: arguments[name] for name in order if name in arguments}


def _read_progress(request: ChatRequest, instruction: Instruction) -> _Progress:
    """Follow the conversation's calls through the plan."""
    progress = _Progress(values=dict(instruction.values))
    calls: dict[str, MessageToolCall] = {}
    for message in request.messages:
        calls |= {call.id: call for call in message.tool_calls}
        if message.role == "tool" and message.tool_call_id in calls:
            _account(progress, instruction, calls[message.tool_call_id], message.content or "")
    return progress


def _account(
    progress: _Progress, instruction: Instruction, made: MessageToolCall, content: str
) -> None:
    plan = instruction.intent.plan
    if progress.step == len(plan):
        return
    planned = next((c for c in plan[progress.step].calls if _function(c) == made.name), None)
    bound = bind_results(planned, content) if planned else None
    progress.last_failed = bound is None
    if bound is not None:
        progress.values |= bound
        progress.step += 1
        progress.failed = set()
    elif planned is not None:
        progress.failed.add(made.name)


def _instruction_text(request: ChatRequest) -> str:
    first = next(message for message in request.messages if message.role == "user")
    return (first.content or "").strip().removesuffix("Begin!").strip()


def _earlier_candidates(request: ChatRequest) -> set[str]:
    """Function names listed by a re-expansion message, empty when there is none."""
    users = [message for message in request.messages if message.role == "user"]
    last = request.messages[-1]
    if len(users) < 2 or last.role != "user":
        return set()
    text = last.content or ""
    try:
        listed = json.JSONDecoder().raw_decode(text[text.index("[") :])[0]
    except ValueError:
        return set()
    return {str(candidate.get("name")) for candidate in listed if isinstance(candidate, dict)}


def _function(call: PlannedCall) -> str:
    return function_name(call.ref.api, call.ref.tool)


def _call(thought: str, name: str, arguments: dict[str, JsonValue]) -> Message:
    text = json.dumps(arguments)
    call_id = hashlib.sha256(f"{name}:{text}".encode()).hexdigest()[:12]
    return Message(
        role="assistant",
        content=thought,
        tool_calls=(MessageToolCall(id=f"call_{call_id}", name=name, arguments=text),),
    )


def _finish(thought: str, answer: str | None) -> Message:
    if answer is None:
        return _call(thought, "Finish", {"return_type": "give_up_and_restart"})
    return _call(thought, "Finish", {"return_type": "give_answer", "final_answer": answer})
