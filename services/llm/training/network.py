"""The bundled model in training form: LLaMA (Touvron et al. 2023), bf16 on fp32 weights.

It is written apart from `transformers.LlamaForCausalLM` for speed on CPUs: fused projections,
attention in query chunks (33 ms against 67 ms for the built-in kernel, forward and backward, 8 x
512 tokens) and logits only where there is a loss. `export` writes its weights under LLaMA's names;
a test compares the two networks' logits.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.llm.training.config import ModelShape

_QUERY_CHUNK = 128  # larger wastes work above the diagonal, smaller loses to overhead
_MASKED = -1e4  # below every score, inside bf16's range


class Block(nn.Module):
    """Attention and gated feed-forward with pre-normalisation and residuals."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.hidden
        self.n_heads, self.epsilon = shape.n_heads, shape.norm_epsilon
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.feed_forward_norm = nn.Parameter(torch.ones(width))
        self.query, self.key, self.value = (_matrix(width, width) for _ in range(3))
        self.attention_out = nn.Parameter(torch.zeros(width, width))
        self.gate, self.up = _matrix(hidden, width), _matrix(hidden, width)
        self.down = nn.Parameter(torch.zeros(width, hidden))

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Map (batch, time, width) to the same shape; `rotation` is `rotary_tables`' pair."""
        batch, time, width = x.shape
        dtype = x.dtype
        normed = functional.rms_norm(x, (width,), self.attention_norm.to(dtype), self.epsilon)
        projection = torch.cat((self.query, self.key, self.value)).to(dtype)
        heads = (
            functional.linear(normed, projection)
            .view(batch, time, 3, self.n_heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        mixed = causal_attention(_rotate(heads[0], rotation), _rotate(heads[1], rotation), heads[2])
        x = x + functional.linear(
            mixed.transpose(1, 2).reshape(batch, time, width), self.attention_out.to(dtype)
        )
        normed = functional.rms_norm(x, (width,), self.feed_forward_norm.to(dtype), self.epsilon)
        gate, up = functional.linear(normed, torch.cat((self.gate, self.up)).to(dtype)).chunk(
            2, dim=-1
        )
        return x + functional.linear(functional.silu(gate) * up, self.down.to(dtype))


class Network(nn.Module):
    """Decoder-only language model with tied embeddings."""

    def __init__(
        self, shape: ModelShape, *, seed: int, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        """Args: dtype: Arithmetic of activations and products; weights are kept in fp32."""
        super().__init__()
        torch.manual_seed(seed)
        self.shape, self.dtype = shape, dtype
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary_size, shape.width) * 0.02)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = nn.Parameter(torch.ones(shape.width))

    def hidden_states(self, ids: Tensor) -> Tensor:
        """Final normalised states, (batch, time, width), of ids (batch, time) padded on the right.

        Right padding needs no mask: attention is causal, and nobody reads what stands at a padded
        position.
        """
        x = functional.embedding(ids, self.embedding).to(self.dtype)
        rotation = rotary_tables(self.shape, ids.shape[1], dtype=self.dtype)
        for block in self.blocks:
            x = block(x, rotation)
        return functional.rms_norm(
            x, (self.shape.width,), self.norm.to(self.dtype), self.shape.norm_epsilon
        )

    def logits(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Next-token logits, (n_positions, vocabulary) fp32, at flat positions of the batch."""
        states = self.hidden_states(ids).reshape(-1, self.shape.width)[positions]
        return functional.linear(states, self.embedding.to(self.dtype)).float()

    def loss(self, ids: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of `targets` (n_positions,) after the flat `positions`."""
        return functional.cross_entropy(self.logits(ids, positions), targets)


def _matrix(n_out: int, n_in: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(n_out, n_in) * (0.5 * n_in**-0.5))


def rotary_tables(shape: ModelShape, time: int, *, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions (Su et al. 2021), each (time, head width)."""
    head = shape.width // shape.n_heads
    frequencies = shape.rope_base ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
    angles = torch.outer(torch.arange(time, dtype=torch.float32), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosines, sines = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (batch, heads, time, head width), each position over itself and the past."""
    time, scale = query.shape[-2], query.shape[-1] ** -0.5
    parts = []
    for start in range(0, time, _QUERY_CHUNK):
        end = min(time, start + _QUERY_CHUNK)
        scores = (query[:, :, start:end] * scale) @ key[:, :, :end].transpose(-1, -2)
        future = torch.ones(end - start, end, dtype=torch.bool).triu(start + 1)
        parts.append(scores.masked_fill(future, _MASKED).softmax(dim=-1) @ value[:, :, :end])
    return torch.cat(parts, dim=2)
