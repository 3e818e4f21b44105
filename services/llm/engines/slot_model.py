"""A causal language model of `transformers` with one key-value cache for many token sequences.

The cache is one tensor per layer with a row per slot. A step writes each new token at its own
row's position, so sequences of different lengths run together and none is ever moved or padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from services.llm.engines.generation import Choice
from services.llm.engines.scheduler import Row

_FIRST_COLUMNS = 512  # a usual prompt; the cache doubles when one is longer


@dataclass(slots=True)
class _Plan:
    """Where the tokens of the current step go and which part of the cache they see."""

    rows: slice
    columns: Tensor
    """Shape (n_rows, n_new) int64: column of each new token, -1 for an idle row."""
    n_seen: int
    """Columns up to the longest sequence of the step."""


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # not typed there
    """Keys and values of one layer, each (n_slots, n_heads, n_columns, head_width)."""

    is_sliding = False

    def __init__(self, n_slots: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._n_slots = n_slots
        self.plan = _Plan(slice(0, 0), torch.zeros((0, 0), dtype=torch.int64), 0)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: `_grown` allocates."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Store the new tokens' states, (n_rows, n_heads, n_new, head_width); return all seen."""
        plan = self.plan
        self.keys = self._grown(self.keys, key_states, plan.n_seen)
        self.values = self._grown(self.values, value_states, plan.n_seen)
        n_rows = key_states.shape[0]
        rows = torch.arange(plan.rows.start, plan.rows.start + n_rows)[:, None]
        # Advanced indices around the slice put (row, column) first: (n_rows, n_new, heads, width).
        self.keys[rows, :, plan.columns] = key_states.transpose(1, 2)
        self.values[rows, :, plan.columns] = value_states.transpose(1, 2)
        return self.keys[plan.rows, :, : plan.n_seen], self.values[plan.rows, :, : plan.n_seen]

    def _grown(self, stored: Tensor | None, new: Tensor, n_columns: int) -> Tensor:
        if stored is not None and stored.shape[2] > n_columns:
            return stored
        n_new = _FIRST_COLUMNS
        while n_new <= n_columns:  # one more than is seen: the last is where idle rows write
            n_new *= 2
        grown = new.new_zeros((self._n_slots, new.shape[1], n_new, new.shape[3]))
        if stored is not None:
            grown[:, :, : stored.shape[2]] = stored
        return grown

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Unused: the masks are given."""
        return self.plan.n_seen, 0

    def get_seq_length(self) -> int:
        """Unused: the positions are given."""
        return self.plan.n_seen

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


class TorchSlotModel:
    """See `SlotModel`."""

    def __init__(self, model: PreTrainedModel, *, n_slots: int) -> None:
        """Serve a loaded model, in evaluation mode, with `n_slots` sequences at once."""
        self._model = model
        self._n_slots = n_slots
        self._layers = [_SlotLayer(n_slots) for _ in range(model.config.num_hidden_layers)]
        self._cache = Cache(layers=list(self._layers))
        self._allowed_ids: dict[frozenset[int], Tensor] = {}

    @property
    def n_slots(self) -> int:
        """See `SlotModel.n_slots`."""
        return self._n_slots

    def prefill(self, slot: int, ids: Sequence[int], *, n_kept: int, choice: Choice) -> int:
        """See `SlotModel.prefill`."""
        columns = torch.arange(n_kept, len(ids))[None]
        mask = torch.arange(len(ids))[None, None, None, :] <= columns[:, None, :, None]
        plan = _Plan(slice(slot, slot + 1), columns, len(ids))
        logits = self._forward(torch.tensor([ids[n_kept:]]), columns, mask, plan)
        return self._choose(logits[0], choice)

    def decode(self, rows: Sequence[Row]) -> list[int]:
        """See `SlotModel.decode`.

        Rows of the cache between the first and the last slot take part even when idle; they write
        to the last column, which no sequence reaches.
        """
        first, last = min(row.slot for row in rows), max(row.slot for row in rows)
        n_seen = max(row.position for row in rows) + 1
        ids, columns = [0] * (last - first + 1), [-1] * (last - first + 1)
        for row in rows:
            ids[row.slot - first], columns[row.slot - first] = row.token_id, row.position
        plan = _Plan(slice(first, last + 1), torch.tensor(columns)[:, None], n_seen)
        positions = plan.columns.clamp(min=0)
        mask = torch.arange(n_seen)[None, None, None, :] <= positions[:, None, :, None]
        logits = self._forward(torch.tensor(ids)[:, None], positions, mask, plan)
        greedy = logits.argmax(dim=-1).tolist()
        return [
            greedy[row.slot - first]
            if row.choice.allowed is None and row.choice.temperature == 0
            else self._choose(logits[row.slot - first], row.choice)
            for row in rows
        ]

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor, plan: _Plan) -> Tensor:
        """Scores of the next token, (n_rows, vocabulary) float32."""
        for layer in self._layers:
            layer.plan = plan
        with torch.inference_mode():
            output = self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
            scores: Tensor = output.logits[:, -1].float()
        return scores

    def _choose(self, scores: Tensor, choice: Choice) -> int:
        """One token from scores of shape (vocabulary,)."""
        ids = None
        if choice.allowed is not None:
            ids = self._ids(choice.allowed)
            scores = scores[ids]
        if choice.temperature > 0:
            cumulated = torch.softmax(scores / choice.temperature, dim=-1).cumsum(dim=-1)
            best = int(torch.searchsorted(cumulated, choice.chance * float(cumulated[-1])))
            best = min(best, len(scores) - 1)
        else:
            best = int(scores.argmax())
        return best if ids is None else int(ids[best])

    def _ids(self, allowed: frozenset[int]) -> Tensor:
        """The set as a sorted tensor; recent ones are kept, as large sets recur at every step."""
        if allowed not in self._allowed_ids:
            if len(self._allowed_ids) >= 256:
                self._allowed_ids.pop(next(iter(self._allowed_ids)))
            self._allowed_ids[allowed] = torch.tensor(sorted(allowed))
        return self._allowed_ids[allowed]
