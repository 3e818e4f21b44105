import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    ResourceExhausted,
)
from services.retriever.embedder import SentenceEncoder, find_encoder

pytestmark = pytest.mark.anyio


class CountingModel:
    """Gives every text the vector (1, 0); waits at its gate before each batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        assert self.gate.wait(timeout=20)
        self.batches.append(texts)
        return np.tile(np.asarray([1.0, 0.0], dtype=np.float32), (len(texts), 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.safetensors", "tokenizer.json", "config.json", "modules.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    return tmp_path


@pytest.fixture
def model() -> CountingModel:
    return CountingModel()


@pytest.fixture
def encoder(folder: Path, model: CountingModel) -> SentenceEncoder:
    encoder = SentenceEncoder(folder=folder, name="tiny", max_waiting=2, cache_size=2)
    encoder._model = model
    return encoder


async def test_a_repeated_query_is_encoded_once(
    encoder: SentenceEncoder, model: CountingModel
) -> None:
    first, again = await encoder.embed_query("x"), await encoder.embed_query("x")
    assert first is again
    assert model.batches == [["x"]]
    await encoder.close()


async def test_the_cache_forgets_what_was_used_least_recently(
    encoder: SentenceEncoder, model: CountingModel
) -> None:
    for text in ("a", "b", "a", "c", "a", "b"):
        await encoder.embed_query(text)
    assert model.batches == [["a"], ["b"], ["c"], ["b"]]
    await encoder.close()


async def test_queries_beyond_the_queue_are_refused_with_the_limit(
    encoder: SentenceEncoder, model: CountingModel
) -> None:
    model.gate.clear()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiting = [group.create_task(encoder.embed_query(text)) for text in "ab"]
        await asyncio.sleep(0.05)
        with pytest.raises(ResourceExhausted, match="limit is 2"):
            await encoder.embed_query("c")
        model.gate.set()
    assert [task.result().shape for task in waiting] == [(2,), (2,)]
    assert (await encoder.embed_query("c")).shape == (2,)
    await encoder.close()


async def test_a_query_gives_up_at_its_deadline_and_the_loop_stays_free(
    encoder: SentenceEncoder, model: CountingModel
) -> None:
    model.gate.clear()
    with deadline_in(0.1), pytest.raises(DeadlineExceeded, match="encoder"):
        await encoder.embed_query("slow")
    model.gate.set()
    assert (await encoder.embed_query("next")).shape == (2,)
    await encoder.close()


def test_equal_models_have_equal_ids_and_changed_weights_another(folder: Path) -> None:
    def identity() -> str:
        return SentenceEncoder(folder=folder, name="tiny", max_waiting=1, cache_size=0).encoder_id

    before = identity()
    assert identity() == before
    (folder / "model.safetensors").write_text("{} ", encoding="utf-8")
    assert identity() != before
    assert before.startswith("tiny@")


def test_a_folder_without_a_model_is_refused_with_the_setting(tmp_path: Path) -> None:
    path, name = find_encoder(str(tmp_path / "nowhere"))
    with pytest.raises(FailedPrecondition, match=r"nowhere.*RETRIEVER_ENCODER"):
        SentenceEncoder(folder=path, name=name, max_waiting=1, cache_size=0)
