"""Muon for the matrices, AdamW for the rest.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": Nesterov
momentum, then the update is replaced by the nearest semi-orthogonal matrix, found by five quintic
Newton-Schulz steps. Matrices of one shape are orthogonalised in one batched product, because many
small products are slow on a CPU.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import AdamW

from services.llm.training.network import Network

_QUINTIC = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan et al. 2024: steepest at zero, singular values end in about [0.7, 1.2]
_NEWTON_SCHULZ_STEPS = 5
_MATRICES_PER_PRODUCT = 5  # small enough to share the work of one shape between threads

RunAll: TypeAlias = Callable[[Callable[[Tensor], Tensor], Iterable[Tensor]], Iterable[Tensor]]


def orthogonalize(updates: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices, approximately.

    Args:
        updates: Shape (n_matrices, n_out, n_in), any dtype.

    Returns:
        Same shape, bf16; singular values between about 0.7 and 1.2.
    """
    a, b, c = _QUINTIC
    x = updates.to(torch.bfloat16)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.transpose(-1, -2) if is_tall else x
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    orthogonal: Tensor = x.transpose(-1, -2) if is_tall else x
    return orthogonal


class Muon:
    """Momentum orthogonalised by Newton-Schulz, for 2-dimensional weights."""

    def __init__(
        self, matrices: Iterable[Tensor], *, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            by_shape[tuple(matrix.shape)].append(matrix)
        self._groups = list(by_shape.values())
        self._momenta = [torch.zeros(len(group), *group[0].shape) for group in self._groups]
        self._momentum, self._weight_decay = momentum, weight_decay

    @torch.no_grad()
    def step(self, rate: float, run_all: RunAll = map) -> None:
        """Apply one update from the gradients.

        Args:
            rate: Learning rate of this step.
            run_all: Maps a function over work that may run in parallel.
        """
        for group, momenta in zip(self._groups, self._momenta, strict=True):
            gradients = torch.stack([_gradient(matrix) for matrix in group])
            momenta.lerp_(gradients, 1 - self._momentum)
            halves = gradients.lerp(momenta, self._momentum).tensor_split(
                -(-len(group) // _MATRICES_PER_PRODUCT)
            )
            updates = torch.cat(list(run_all(orthogonalize, halves)))
            n_out, n_in = group[0].shape
            step = rate * max(1.0, n_out / n_in) ** 0.5
            for matrix, update in zip(group, updates.float(), strict=True):
                matrix.mul_(1 - rate * self._weight_decay).sub_(update, alpha=step)

    def state(self) -> list[Tensor]:
        """Momenta, for a checkpoint."""
        return self._momenta

    def restore(self, momenta: list[Tensor]) -> None:
        """Take back the momenta of `state`."""
        for own, saved in zip(self._momenta, momenta, strict=True):
            own.copy_(saved)


def _gradient(matrix: Tensor) -> Tensor:
    return torch.zeros_like(matrix) if matrix.grad is None else matrix.grad


class Optimizer:
    """Both optimisers of one network behind one `step`."""

    def __init__(
        self, network: Network, *, muon_rate: float, adam_rate: float, weight_decay: float
    ) -> None:
        others = [network.embedding, *(p for p in network.parameters() if p.ndim == 1)]
        matrices = [p for p in network.blocks.parameters() if p.ndim == 2]
        self._network, self._muon_rate, self._adam_rate = network, muon_rate, adam_rate
        self._muon = Muon(matrices, weight_decay=weight_decay)
        self._adam = AdamW(others, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def step(self, factor: float, run_all: RunAll = map) -> None:
        """Update every weight with the peak rates times `factor`, then clear the gradients."""
        self._muon.step(self._muon_rate * factor, run_all)
        for group in self._adam.param_groups:
            group["lr"] = self._adam_rate * factor
        self._adam.step()
        self._network.zero_grad(set_to_none=True)

    def state(self) -> dict[str, object]:
        """Both optimisers' states, for a checkpoint."""
        return {"muon": self._muon.state(), "adam": self._adam.state_dict()}

    def restore(self, muon: list[Tensor], adam: dict[str, object]) -> None:
        """Take back what `state` gave."""
        self._muon.restore(muon)
        self._adam.load_state_dict(adam)
