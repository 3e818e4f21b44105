"""Batches as a function of a position: a killed run goes on with the batch it lost."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.llm.training.render import PADDING

PADDING_ID = 0  # `tokenizer.ROLE_TOKENS` starts with the padding token
N_MARKERS = 10  # ids below are role and step markers, never used as random content
LENGTH_MULTIPLE = 32
assert PADDING == "<pad>"


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded conversations of similar length.

    Attributes:
        ids: (n_rows, length) int64.
        positions: (n_trained,) int64, flat positions whose next token is trained.
        targets: (n_trained,) int64, those next tokens.
        n_tokens: Tokens without padding.
    """

    ids: Tensor
    positions: Tensor
    targets: Tensor
    n_tokens: int


def make_batch(rows: list[NDArray[np.int64]], trained: list[NDArray[np.bool_]]) -> Batch:
    """Pad token rows and collect the trained positions.

    Args:
        rows: Token ids of each conversation, each (length,).
        trained: For each row, (length,), True where this very token is a target (never at index 0).
    """
    length = -(-max(len(row) for row in rows) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    ids = np.full((len(rows), length), PADDING_ID, dtype=np.int64)
    is_target = np.zeros((len(rows), length), dtype=np.bool_)
    for index, (row, mask) in enumerate(zip(rows, trained, strict=True)):
        ids[index, : len(row)] = row
        is_target[index, 1 : len(row)] = mask[1:]
    flat = np.flatnonzero(is_target)
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(flat - 1),
        targets=torch.from_numpy(ids.reshape(-1)[flat]),
        n_tokens=sum(len(row) for row in rows),
    )


def induction_batch(*, seed: int, step: int, vocabulary_size: int, n_tokens: int) -> Batch:
    """Random tokens that repeat: what a network must copy to predict them.

    Half of the batches repeat one random sequence over and over, which forms previous-token and
    induction heads (Olsson et al. 2022) within a few hundred steps; in the others short spans of
    the past come back after random tokens, with the span's first token as the cue. Only tokens that
    can be known are trained.
    """
    rng = np.random.default_rng((seed, 1, step))
    length = int(rng.choice((64, 128)))
    make_row = _periodic if rng.random() < 0.5 else _repeated_spans
    rows = [make_row(rng, length, vocabulary_size) for _ in range(max(1, n_tokens // length))]
    return make_batch([row for row, _ in rows], [mask for _, mask in rows])


def _alphabet(rng: np.random.Generator, vocabulary_size: int) -> NDArray[np.int64]:
    # A small alphabet makes cues ambiguous (as digits are), so the network also learns to match two
    # tokens back.
    n_kinds = (20, 100, vocabulary_size - N_MARKERS)[int(rng.integers(3))]
    return rng.choice(np.arange(N_MARKERS, vocabulary_size), size=n_kinds, replace=False)


def _periodic(
    rng: np.random.Generator, length: int, vocabulary_size: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    period = int(rng.integers(4, length // 2))
    once = rng.choice(_alphabet(rng, vocabulary_size), size=period)
    row = np.tile(once, length // period + 1)[:length]
    mask = np.arange(length) > period
    return row, mask


def _repeated_spans(
    rng: np.random.Generator, length: int, vocabulary_size: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    row = rng.choice(_alphabet(rng, vocabulary_size), size=length)
    mask = np.zeros(length, dtype=np.bool_)
    position = int(length * rng.uniform(0.3, 0.6))
    while position < length - 2:
        position += int(rng.integers(0, 4))
        span = min(int(rng.integers(2, 12)), length - position)
        if span < 2:
            break
        source = int(rng.integers(0, position - span)) if position > span else 0
        row[position : position + span] = row[source : source + span]
        mask[position + 1 : position + span] = True
        position += span
    return row, mask
