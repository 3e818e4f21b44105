"""Training conversations: the real planner, driven by the oracle, over the real tools."""

import asyncio
import gzip
import io
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.errors import InvalidArgument
from services.contracts.llm import FunctionSchema, Message
from services.contracts.planner import Limits, Planner, RunEnded, SolveRequest
from services.contracts.retriever import Retriever, RetrieveRequest
from services.dataset.instructions import Instruction, draw_instructions, offered_apis
from services.dataset.intents import IntentLibrary
from services.dataset.oracle import OracleModel, Turn

Sample = dict[str, JsonValue]
_METHOD = "DFS_woFilter_w2"
_LIMITS = Limits(max_depth=24, max_llm_calls=40, deadline_s=60)
_OFFERED = (3, 7)  # sizes of the action space; a user's top_k is 5 by default
_MAX_REPETITIONS = 10_000  # in a row: the templates have no further instruction to give


@dataclass(frozen=True, slots=True)
class TrajectoryConfig:
    """What to generate."""

    n_instructions: int
    seed: int
    split: Literal["train", "dev"] = "train"
    """What is evaluated may not be trained on."""
    concurrency: int = 16
    retrieved_fraction: float = 0.5
    """Fraction of instructions whose distractors are what the retriever really offers."""


class TrajectoryWriter:
    """Solves instructions with the oracle and turns the search trees into conversations."""

    def __init__(
        self,
        *,
        planner: Planner,
        oracle: OracleModel,
        library: IntentLibrary,
        catalogue: Sequence[ApiDocument],
        retriever: Retriever | None,
    ) -> None:
        self._planner = planner
        self._oracle = oracle
        self._library = library
        self._catalogue = catalogue
        self._retriever = retriever
        self._held_out = held_out_apis(library)

    async def write(self, config: TrajectoryConfig, path: Path) -> int:
        """Write conversations as gzipped JSON lines, atomically; returns how many.

        Args:
            config: What to generate; the same config and tools give the same file.
            path: Target, ending in `.jsonl.gz`.
        """
        partial = path.with_name(f".{path.name}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        n_written = 0
        try:
            # Without name and time in the gzip header the same conversations are the same bytes.
            with (
                partial.open("wb") as raw,
                gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8") as out,
            ):
                async for sample in self.samples(config):
                    out.write(json.dumps(sample) + "\n")
                    n_written += 1
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return n_written

    async def samples(self, config: TrajectoryConfig) -> AsyncIterator[Sample]:
        """Yield conversations, in batches of concurrent runs, in a fixed order."""
        rng = random.Random(f"offers:{config.seed}")
        stream = _without_repetition(
            draw_instructions(self._library, split=config.split, seed=config.seed)
        )
        left = config.n_instructions
        while left > 0:
            batch = [next(stream) for _ in range(min(left, config.concurrency))]
            left -= len(batch)
            offers = [await self._offer(item, rng, config) for item in batch]
            async with asyncio.TaskGroup() as group:
                runs = [
                    group.create_task(self._solve(item, offer))
                    for item, offer in zip(batch, offers, strict=True)
                ]
            for run in runs:
                for sample in run.result():
                    yield sample

    async def _offer(
        self, instruction: Instruction, rng: random.Random, config: TrajectoryConfig
    ) -> list[ApiRef]:
        size = rng.randint(*_OFFERED)
        use_retriever = rng.random() < config.retrieved_fraction
        offered = offered_apis(
            instruction, self._catalogue, rng=rng, size=size, excluded=self._held_out
        )
        if self._retriever is None or not use_retriever:
            return offered
        request = RetrieveRequest(query=instruction.text, top_k=size)
        result = await self._retriever.retrieve(request)
        found = [hit.api for hit in result.apis if hit.api not in self._held_out]
        return found + [ref for ref in instruction.intent.apis() if ref not in found]

    async def _solve(self, instruction: Instruction, offered: list[ApiRef]) -> list[Sample]:
        self._oracle.register(instruction)
        request = SolveRequest(
            instruction=instruction.text, method=_METHOD, apis=tuple(offered), limits=_LIMITS
        )
        ended = await _run_to_end(self._planner, request)
        turns = self._oracle.take_turns(instruction)
        return conversations(instruction, turns) if ended.kind == "answered" else []


async def _run_to_end(planner: Planner, request: SolveRequest) -> RunEnded:
    async with aclosing(planner.solve(request)) as events:
        async for event in events:
            if isinstance(event, RunEnded):
                return event
    raise AssertionError("the planner ended without a terminal event")


def held_out_apis(library: IntentLibrary) -> frozenset[ApiRef]:
    """APIs of the transfer intents, which training must never show."""
    return frozenset(
        ref for intent in library.intents if intent.is_transfer for ref in intent.apis()
    )


def _without_repetition(instructions: Iterator[Instruction]) -> Iterator[Instruction]:
    """Drop instructions whose text came before: the oracle knows them by their text.

    Raises:
        InvalidArgument: Nothing new has come for long.
    """
    seen: set[str] = set()
    repetitions = 0
    for instruction in instructions:
        repetitions += 1
        if instruction.text not in seen:
            seen.add(instruction.text)
            repetitions = 0
            yield instruction
        elif repetitions >= _MAX_REPETITIONS:
            raise InvalidArgument(
                f"the templates give only {len(seen)} different instructions; ask for fewer"
            )


def conversations(instruction: Instruction, turns: Sequence[Turn]) -> list[Sample]:
    """Turn the oracle's turns of one run into conversations, each turn trained on once.

    A turn that answers a re-expansion message is a conversation of its own, because later turns do
    not see that message. Mistakes stay in the history and out of the loss.
    """
    plain = [turn for turn in turns if not turn.is_reexpansion]
    prefixes = {_key(turn.request.messages) for turn in plain}
    trained: set[str] = set()
    trainable = {
        _key((*turn.request.messages, turn.reply)) for turn in plain if not turn.is_mistake
    }
    samples: list[Sample] = []
    for turn in turns:
        messages = (*turn.request.messages, turn.reply)
        if turn.is_reexpansion:
            indexes = [len(messages) - 1]
        elif _continues(messages, prefixes):
            continue
        else:
            indexes = _trained_indexes(messages, trainable, trained)
        if indexes:
            samples.append(
                _sample(instruction, len(samples), turn.request.tools, messages, indexes)
            )
    return samples


def _continues(messages: tuple[Message, ...], prefixes: set[str]) -> bool:
    """Whether a later plain turn extends this conversation by its tool messages."""
    start = _key(messages)[:-1]
    return any(prefix.startswith(start) for prefix in prefixes)


def _trained_indexes(
    messages: tuple[Message, ...], trainable: set[str], trained: set[str]
) -> list[int]:
    indexes = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        key = _key(messages[: index + 1])
        if key in trainable and key not in trained:
            trained.add(key)
            indexes.append(index)
    return indexes


def _key(messages: Sequence[Message]) -> str:
    return json.dumps([message.model_dump() for message in messages])


def _sample(
    instruction: Instruction,
    number: int,
    tools: Sequence[FunctionSchema],
    messages: Sequence[Message],
    trained: Sequence[int],
) -> Sample:
    return {
        "id": f"{instruction.template_id}/{number}",
        "instruction": instruction.text,
        "tools": [{"type": "function", "function": tool.model_dump()} for tool in tools],
        "messages": [openai_message(message) for message in messages],
        "train": list(trained),
    }


def openai_message(message: Message) -> dict[str, JsonValue]:
    """OpenAI's form of a message, without empty fields."""
    form: dict[str, JsonValue] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        form["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        form |= {"name": message.name, "tool_call_id": message.tool_call_id}
    return form
