"""Instructions made from intents, with the answer that the tools themselves give."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import InvalidArgument
from services.contracts.evaluator import ExpectedAnswer, NumberExpectation
from services.contracts.toolenv import CallStatus, ToolCall, ToolEnv
from services.dataset.intents import (
    PLACEHOLDER,
    IntegerSlot,
    Intent,
    IntentLibrary,
    NumberSlot,
    PlannedCall,
    Split,
    Step,
)
from services.dataset.slots import draw_values

_FLOAT_TOLERANCE = 1e-3  # relative: an answer rounded to three significant digits is right


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its values."""

    intent: Intent
    template_id: str
    """Intent, split and number of the phrasing; the unit of the train/dev/test split."""
    split: Split
    text: str
    values: dict[str, str]
    """Slot name to the text that stands in the instruction."""


def instantiate(
    intent: Intent, *, split: Split, index: int, library: IntentLibrary, rng: random.Random
) -> Instruction:
    """Fill phrasing number `index` of one split with values of that split."""
    phrasing = intent.phrasings[split][index]
    values = draw_values(intent.slots, split=split, vocabularies=library.vocabularies, rng=rng)
    return Instruction(
        intent=intent,
        template_id=f"{intent.intent_id}#{split}{index}",
        split=split,
        text=fill(phrasing, values),
        values=values,
    )


def draw_instructions(library: IntentLibrary, *, split: Split, seed: int) -> Iterator[Instruction]:
    """An endless, seeded stream of instructions of one split, every intent equally often."""
    rng = random.Random(f"{split}:{seed}")
    intents = [intent for intent in library.intents if intent.phrasings.get(split)]
    if not intents:
        raise InvalidArgument(f"no intent has phrasings for split {split!r}")
    while True:
        for intent in rng.sample(intents, len(intents)):
            index = rng.randrange(len(intent.phrasings[split]))
            yield instantiate(intent, split=split, index=index, library=library, rng=rng)


def fill(template: str, values: dict[str, str]) -> str:
    """Replace every `{name}`.

    Raises:
        InvalidArgument: A name has no value.
    """
    missing = [name for name in PLACEHOLDER.findall(template) if name not in values]
    if missing:
        raise InvalidArgument(f"no value for {missing[0]!r} in template {template!r}")
    return PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


def call_arguments(
    call: PlannedCall, intent: Intent, values: dict[str, str]
) -> dict[str, JsonValue]:
    """Arguments of a planned call; numbers stay numbers when they are a whole argument."""
    return {name: _argument(text, intent, values) for name, text in call.arguments.items()}


def _argument(template: str, intent: Intent, values: dict[str, str]) -> JsonValue:
    text = fill(template, values)
    match = PLACEHOLDER.fullmatch(template)
    slot = intent.slots.get(match.group(1)) if match else None
    is_number = isinstance(slot, NumberSlot | IntegerSlot)
    if is_number or (match and slot is None and _is_number(text)):
        number: JsonValue = json.loads(text)
        return number
    return text


def _is_number(text: str) -> bool:
    try:
        return isinstance(json.loads(text), int | float) and text not in ("true", "false")
    except ValueError:
        return False


def bind_results(call: PlannedCall, content: str) -> dict[str, str] | None:
    """Values that a call's observation binds; `None` when it is an error or lacks a field.

    Args:
        call: The planned call.
        content: The whole `{"error", "response"}` JSON text of the observation.
    """
    try:
        observation = json.loads(content)
    except ValueError:
        return None
    if not isinstance(observation, dict) or observation.get("error"):
        return None
    response = observation.get("response")
    if not isinstance(response, dict) or any(field not in response for field in call.bind.values()):
        return None
    return {name: _shown(response[field]) for name, field in call.bind.items()}


def _shown(value: JsonValue) -> str:
    """Text of a result as it stands in JSON, strings without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


async def solve_plan(instruction: Instruction, tools: ToolEnv) -> dict[str, str]:
    """Run the plan on the real tools and return all values, slots and bound results.

    Raises:
        InvalidArgument: A step has no call that succeeds: the intent is wrong.
    """
    values = dict(instruction.values)
    for step in instruction.intent.plan:
        values |= await _take_step(step, instruction, values, tools)
    return values


async def _take_step(
    step: Step, instruction: Instruction, values: dict[str, str], tools: ToolEnv
) -> dict[str, str]:
    for call in step.calls:
        arguments = json.dumps(call_arguments(call, instruction.intent, values))
        observation = await tools.invoke(ToolCall(api=call.ref, arguments_text=arguments))
        bound = bind_results(call, observation.content)
        if observation.status is CallStatus.OK and bound is not None:
            return bound
    raise InvalidArgument(
        f"{instruction.template_id}: no call of step {step.thought!r} succeeds for {values}"
    )


async def expected_answer(instruction: Instruction, tools: ToolEnv) -> ExpectedAnswer:
    """What a right answer states, computed by running the plan."""
    values = await solve_plan(instruction, tools)
    answer = instruction.intent.answer
    return ExpectedAnswer(
        contains=tuple(values[name] for name in answer.contains),
        numbers=tuple(_expectation(values[name]) for name in answer.numbers),
    )


def _expectation(text: str) -> NumberExpectation:
    value = json.loads(text)
    is_exact = isinstance(value, int)
    return NumberExpectation(
        value=value, tolerance=0 if is_exact else abs(value) * _FLOAT_TOLERANCE
    )


def offered_apis(
    instruction: Instruction,
    catalogue: Sequence[ApiDocument],
    *,
    rng: random.Random,
    size: int,
    excluded: frozenset[ApiRef] = frozenset(),
) -> list[ApiRef]:
    """An action space: every API of the plan and distractors, shuffled.

    Half of the distractors come from the plan's own categories, where names are alike.

    Args:
        instruction: Whose plan must be possible.
        catalogue: All documents.
        rng: Source of randomness.
        size: How many APIs; more when the plan alone needs more.
        excluded: APIs that must not be offered (those held out from training).
    """
    needed = instruction.intent.apis()
    categories = {ref.category for ref in needed}
    others = [doc.ref for doc in catalogue if doc.ref not in needed and doc.ref not in excluded]
    near = [ref for ref in others if ref.category in categories]
    chosen = list(needed)
    while len(chosen) < size and len(chosen) < len(needed) + len(others):
        pool = near if near and rng.random() < 0.5 else others
        ref = rng.choice(pool)
        if ref not in chosen:
            chosen.append(ref)
        elif pool is near:
            near = [ref for ref in near if ref not in chosen]
    rng.shuffle(chosen)
    return chosen
