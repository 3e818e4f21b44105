from itertools import islice

import numpy as np
import pytest
import torch

from services.llm.training.batches import induction_batch, make_batch
from services.llm.training.config import TrainingError
from services.llm.training.corpus import Encoder
from services.llm.training.parallel import split_rows
from services.llm.training.stream import DataStream
from tests.unit.llm.training_conversations import conversations, small_tokenizer


def stream(folder, items=None) -> DataStream:
    return DataStream(
        conversations(folder) if items is None else items,
        Encoder(small_tokenizer(folder)),
        seed=3,
        tokens_per_batch=1024,
        max_tokens=512,
        value_swap_fraction=0.3,
        word_drop_fraction=0.3,
    )


def test_a_target_is_the_token_after_its_position():
    rows = [np.array([5, 6, 7, 8]), np.array([9, 10])]
    batch = make_batch(rows, [np.array([False, False, True, True]), np.array([False, True])])
    at_positions = batch.ids.reshape(-1)[batch.positions]
    assert at_positions.tolist() == [6, 7, 9]
    assert batch.targets.tolist() == [7, 8, 10]
    assert batch.n_tokens == 6


def test_trained_tokens_of_the_induction_rows_stood_there_before():
    batch = induction_batch(seed=1, step=4, vocabulary_size=300, n_tokens=512)
    flat, length = batch.ids.reshape(-1), batch.ids.shape[1]
    for position, target in zip(batch.positions.tolist(), batch.targets.tolist(), strict=True):
        start = position // length * length
        assert target in flat[start : position + 1].tolist()


def test_induction_batches_are_a_function_of_seed_and_step():
    first, again, other = (
        induction_batch(seed=1, step=step, vocabulary_size=300, n_tokens=256) for step in (2, 2, 3)
    )
    assert torch.equal(first.ids, again.ids)
    assert first.ids.shape != other.ids.shape or not torch.equal(first.ids, other.ids)


@pytest.mark.parametrize("position", [1, 7, 23])
def test_a_stream_goes_on_with_exactly_the_same_batches(tmp_path, position):
    straight = list(islice(stream(tmp_path).batches(0), position + 3))[position:]
    resumed = list(islice(stream(tmp_path).batches(position), 3))
    for one, other in zip(straight, resumed, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.targets, other.targets)


def test_batches_stay_within_the_token_budget(tmp_path):
    assert all(batch.ids.numel() <= 1024 for batch in islice(stream(tmp_path).batches(0), 20))


def test_data_without_a_usable_conversation_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no conversation"):
        stream(tmp_path, items=[])


def test_splitting_a_batch_keeps_every_target():
    batch = induction_batch(seed=1, step=4, vocabulary_size=300, n_tokens=512)
    parts = split_rows(batch, 3)
    assert torch.equal(torch.cat([part.ids for part in parts]), batch.ids)
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    at_positions = torch.cat([part.ids.reshape(-1)[part.positions] for part in parts])
    assert torch.equal(at_positions, batch.ids.reshape(-1)[batch.positions])
