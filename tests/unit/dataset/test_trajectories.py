"""Training files: the same conversations are the same bytes, and nothing is drawn for ever."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.contracts.errors import InvalidArgument
from services.dataset.intents import Intent, IntentLibrary
from services.dataset.oracle import OracleModel
from services.dataset.trajectories import Sample, TrajectoryConfig, TrajectoryWriter
from tests.fakes.planner import FakePlanner

pytestmark = pytest.mark.anyio

ONLY = Intent.model_validate(
    {
        "intent_id": "hello",
        "group": "G1",
        "plan": [{"thought": "Greet.", "calls": [{"api": "A/b/c"}]}],
        "answer": {"text": "Hello."},
        "phrasings": {"train": ["Say hello."]},
    }
)


class Writer(TrajectoryWriter):
    """Writes the given conversations, and fails where one is an error."""

    def __init__(self, *written: Sample | Exception) -> None:
        library = IntentLibrary([ONLY], {})
        super().__init__(
            planner=FakePlanner(),
            oracle=OracleModel(seed=1),
            library=library,
            catalogue=[],
            retriever=None,
        )
        self._written = written

    async def samples(self, config: TrajectoryConfig) -> AsyncIterator[Sample]:
        for sample in self._written:
            if isinstance(sample, Exception):
                raise sample
            yield sample


CONFIG = TrajectoryConfig(n_instructions=2, seed=1)


async def test_the_same_conversations_give_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    written = [await Writer({"id": "1"}, {"id": "2"}).write(CONFIG, file) for file in files]
    assert written == [2, 2]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes()[4:8] == bytes(4)  # no time in the header


async def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"):
        await Writer({"id": "1"}, OSError("full")).write(CONFIG, tmp_path / "a.jsonl.gz")
    assert os.listdir(tmp_path) == []


async def test_asking_for_more_instructions_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="only 1 different"):
        await anext(TrajectoryWriter.samples(Writer(), CONFIG))


def test_a_vocabulary_that_is_no_list_is_named(tmp_path: Path) -> None:
    for folder in ("intents", "vocabularies"):
        (tmp_path / folder).mkdir()
    (tmp_path / "intents" / "one.json").write_text('{"intents": []}')
    (tmp_path / "vocabularies" / "cities.json").write_text('{"Paris": 1}')
    with pytest.raises(InvalidArgument, match="cities.json"):
        IntentLibrary.load(tmp_path)
