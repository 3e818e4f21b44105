"""Teacher-forced scores: how often a turn, its API and its arguments are the reference's."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from services.llm.training.batches import make_batch
from services.llm.training.config import JsonScalar
from services.llm.training.corpus import Conversation, Encoded, Encoder, Part
from services.llm.training.network import Network

_ROWS_PER_BATCH = 8


@dataclass(frozen=True, slots=True)
class TurnScores:
    """Fractions in [0, 1] of trained turns, with the true earlier tokens given (teacher forcing).

    Attributes:
        n_turns: Turns scored.
        exact: Thought, API and arguments all exact.
        call_exact: API and arguments exact, whatever the thought.
        api_exact: Every token of the API's name is the model's first choice.
        arguments_exact: Every token of the arguments and the end token is the model's first choice.
    """

    n_turns: int
    exact: float
    call_exact: float
    api_exact: float
    arguments_exact: float

    def as_json(self) -> dict[str, JsonScalar]:
        """All fields by name, rounded."""
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def score_turns(
    network: Network, encoder: Encoder, conversations: Sequence[Conversation]
) -> TurnScores:
    """Score every trained turn; it is right when the argmax is right at each of its tokens."""
    encoded = sorted(encoder.encode(conversations), key=lambda item: len(item.ids))
    rows: list[NDArray[np.bool_]] = []
    for start in range(0, len(encoded), _ROWS_PER_BATCH):
        group = encoded[start : start + _ROWS_PER_BATCH]
        for item, is_right in zip(group, _right_tokens(network, group), strict=True):
            rows.extend(_turns(item, is_right))
    table = np.array(rows, dtype=np.bool_).reshape(-1, 3)
    means = table.mean(axis=0) if len(table) else np.zeros(3)
    return TurnScores(
        n_turns=len(table),
        exact=float(table.all(axis=1).mean()) if len(table) else 0.0,
        call_exact=float(table[:, 1:].all(axis=1).mean()) if len(table) else 0.0,
        api_exact=float(means[1]),
        arguments_exact=float(means[2]),
    )


def _right_tokens(network: Network, group: list[Encoded]) -> list[NDArray[np.bool_]]:
    """Say for each token, (length,), whether it is trained and the model's first choice."""
    trained = [item.parts > 0 for item in group]
    batch = make_batch([item.ids for item in group], trained)
    with torch.inference_mode():
        hits = (network.logits(batch.ids, batch.positions).argmax(dim=-1) == batch.targets).numpy()
    rights = []
    offset = 0
    for mask in trained:
        n_trained = int(mask[1:].sum())
        right = np.zeros(len(mask), dtype=np.bool_)
        right[1:][mask[1:]] = hits[offset : offset + n_trained]
        rights.append(right)
        offset += n_trained
    return rights


def _turns(item: Encoded, is_right: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """For each turn, (3,): thought, API and arguments right."""
    is_trained = item.parts > 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_trained, [False])).astype(np.int8)))
    turns = []
    for start, end in edges.reshape(-1, 2):
        parts, right = item.parts[start:end], is_right[start:end]
        turns.append(
            np.array(
                [right[parts == part].all() for part in (Part.THOUGHT, Part.API, Part.ARGUMENTS)]
            )
        )
    return turns
