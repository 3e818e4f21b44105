"""The order in which conversations become batches, given data, seed and position."""

from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np

from services.llm.training.augment import drop_words, swap_values
from services.llm.training.batches import LENGTH_MULTIPLE, Batch, make_batch
from services.llm.training.config import TrainingError
from services.llm.training.corpus import Conversation, Encoded, Encoder

_WINDOW = 512  # conversations sorted by length together: padding stays under 5 %


class DataStream:
    """Endless batches over shuffled epochs, reproducible from any position."""

    def __init__(
        self,
        conversations: Sequence[Conversation],
        encoder: Encoder,
        *,
        seed: int,
        tokens_per_batch: int,
        max_tokens: int,
        value_swap_fraction: float,
        word_drop_fraction: float = 0.0,
    ) -> None:
        self._conversations, self._encoder, self._seed = conversations, encoder, seed
        self._tokens_per_batch, self._max_tokens = tokens_per_batch, max_tokens
        self._swap_fraction, self._drop_fraction = value_swap_fraction, word_drop_fraction
        if not conversations:
            raise TrainingError("the training files hold no conversation")

    def batches(self, position: int) -> Iterator[Batch]:
        """Batches from the `position`-th on; skipping re-encodes, 1 s per 1,000 batches."""
        return islice(self._all(), position, None)

    def _all(self) -> Iterator[Batch]:
        for epoch in count():
            order = np.random.default_rng((self._seed, 2, epoch)).permutation(
                len(self._conversations)
            )
            n_batches = 0
            for start in range(0, len(order), _WINDOW):
                for batch in self._window(order[start : start + _WINDOW].tolist(), epoch):
                    n_batches += 1
                    yield batch
            if not n_batches:
                raise TrainingError(
                    f"every conversation exceeds max_tokens={self._max_tokens}; raise the limit"
                )

    def _window(self, indexes: list[int], epoch: int) -> Iterator[Batch]:
        chosen = [self._augmented(index, epoch) for index in indexes]
        encoded = [
            item for item in self._encoder.encode(chosen) if len(item.ids) <= self._max_tokens
        ]
        encoded.sort(key=lambda item: len(item.ids))
        groups = list(self._groups(encoded))
        rng = np.random.default_rng((self._seed, 3, epoch, indexes[0]))
        for group in (groups[index] for index in rng.permutation(len(groups))):
            yield make_batch([item.ids for item in group], [item.parts > 0 for item in group])

    def _augmented(self, index: int, epoch: int) -> Conversation:
        rng = np.random.default_rng((self._seed, 4, epoch, index))
        conversation = self._conversations[index]
        if rng.random() < self._swap_fraction:
            conversation = swap_values(conversation, rng)
        if rng.random() < self._drop_fraction:
            conversation = drop_words(conversation, rng)
        return conversation

    def _groups(self, encoded: list[Encoded]) -> Iterator[list[Encoded]]:
        group: list[Encoded] = []
        for item in encoded:
            padded = -(-len(item.ids) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
            if group and padded * (len(group) + 1) > self._tokens_per_batch:
                yield group
                group = []
            group.append(item)
        if group:
            yield group
