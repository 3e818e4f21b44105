"""Gradients of one batch from several threads, each with rows of its own.

Kernels that fork and join hundreds of times a step lose most of their speed when another process
takes a core (measured: 500 tokens/s against 7,500). Threads that meet once a step do not, and the
weights stay shared.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from services.llm.training.batches import Batch
from services.llm.training.network import Network

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Workers:
    """A fixed set of compute threads; also sets this process's kernels to one thread each."""

    def __init__(self, n_threads: int) -> None:
        torch.set_num_threads(1)
        self._n_threads = n_threads
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="train")

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Results in order, computed in parallel."""
        return list(self._pool.map(function, items))

    def accumulate(self, network: Network, batch: Batch) -> float:
        """Put the gradient of the mean loss into `.grad`; returns the loss in nats a token."""
        weights = list(network.parameters())
        shards = [shard for shard in split_rows(batch, self._n_threads) if len(shard.targets)]
        n_targets = sum(len(shard.targets) for shard in shards)

        def gradients(shard: Batch) -> tuple[float, Sequence[Tensor]]:
            loss = network.loss(shard.ids, shard.positions, shard.targets) * (
                len(shard.targets) / n_targets
            )
            return float(loss.detach()), torch.autograd.grad(loss, weights)

        results = self.map(gradients, shards)
        for weight, *parts in zip(weights, *(grads for _, grads in results), strict=True):
            weight.grad = parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)
        return sum(loss for loss, _ in results)

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self._pool.shutdown()


def split_rows(batch: Batch, n_parts: int) -> list[Batch]:
    """Cut a batch into at most `n_parts` runs of whole rows, trained positions renumbered."""
    n_rows, length = batch.ids.shape
    bounds = [round(n_rows * part / n_parts) for part in range(n_parts + 1)]
    parts = []
    for start, end in zip(bounds, bounds[1:], strict=False):
        if start == end:
            continue
        inside = (batch.positions >= start * length) & (batch.positions < end * length)
        parts.append(
            Batch(
                ids=batch.ids[start:end],
                positions=batch.positions[inside] - start * length,
                targets=batch.targets[inside],
                n_tokens=0,
            )
        )
    return parts
