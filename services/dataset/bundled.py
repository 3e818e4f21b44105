"""The bundled instruction files: ToolBench's query format plus a checkable answer."""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef
from services.contracts.evaluator import ExpectedAnswer
from services.contracts.toolenv import ToolEnv
from services.dataset.instructions import (
    Instruction,
    expected_answer,
    instantiate,
    offered_apis,
)
from services.dataset.intents import Group, IntentLibrary, Split

_SPLITS: tuple[Split, ...] = ("train", "dev", "test", "transfer")
_PER_INTENT = {"train": 1, "dev": 1, "test": 3, "transfer": 5}
_OFFERED_SIZE = 5
_FIRST_QUERY_ID = {"G1": 100_000, "G2": 200_000, "G3": 300_000}


class BundledWriter:
    """Writes `data/instructions/<group>_<split>.json` from the intents, seeded."""

    def __init__(
        self, *, library: IntentLibrary, tools: ToolEnv, catalogue: Sequence[ApiDocument], seed: int
    ) -> None:
        self._library = library
        self._tools = tools
        self._documents = {document.ref: document for document in catalogue}
        self._seed = seed

    async def write(self, folder: Path) -> dict[str, int]:
        """Write every file and return the number of instructions of each."""
        groups: dict[tuple[Group, Split], list[dict[str, JsonValue]]] = defaultdict(list)
        for split in _SPLITS:
            rng = random.Random(f"bundled:{split}:{self._seed}")
            for instruction in self._instructions(split, rng):
                group = groups[instruction.intent.group, split]
                query_id = _FIRST_QUERY_ID[instruction.intent.group] + _SPLITS.index(split) * 10_000
                group.append(await self.query(instruction, query_id=query_id + len(group), rng=rng))
        return {
            _write_file(folder / f"{group}_{split}.json", queries): len(queries)
            for (group, split), queries in sorted(groups.items())
        }

    def _instructions(self, split: Split, rng: random.Random) -> list[Instruction]:
        """One instruction of each of the first few phrasings of every intent."""
        return [
            instantiate(intent, split=split, index=index, library=self._library, rng=rng)
            for intent in self._library.intents
            for index in range(min(len(intent.phrasings.get(split, ())), _PER_INTENT[split]))
        ]

    async def query(
        self, instruction: Instruction, *, query_id: int, rng: random.Random
    ) -> dict[str, JsonValue]:
        """One element of a query file."""
        offered = offered_apis(
            instruction, list(self._documents.values()), rng=rng, size=_OFFERED_SIZE
        )
        expected: ExpectedAnswer = await expected_answer(instruction, self._tools)
        return {
            "query_id": query_id,
            "query": instruction.text,
            "api_list": [_api_element(self._documents[ref]) for ref in offered],
            "relevant APIs": [self._pair(ref) for ref in instruction.intent.apis()],
            "answer": expected.model_dump(mode="json"),
            "split": instruction.split,
            "template_id": instruction.template_id,
        }

    def _pair(self, ref: ApiRef) -> JsonValue:
        document = self._documents[ref]
        return [document.tool_name, document.api_name]


def _api_element(document: ApiDocument) -> dict[str, JsonValue]:
    """An `api_list` element of interop 2.1, which is also the retriever's document."""
    return {
        "category_name": document.category_name,
        "tool_name": document.tool_name,
        "api_name": document.api_name,
        "api_description": document.description,
        "required_parameters": _parameters(document.required_parameters),
        "optional_parameters": _parameters(document.optional_parameters),
        "method": document.method,
        "template_response": document.template_response,
    }


def _parameters(parameters: Sequence[ApiParameter]) -> list[JsonValue]:
    """As ToolBench has them, which knows no JSON Schema."""
    return [parameter.model_dump(exclude={"json_schema"}) for parameter in parameters]


def _write_file(path: Path, queries: list[dict[str, JsonValue]]) -> str:
    partial = path.with_name(f".{path.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(queries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return path.name
