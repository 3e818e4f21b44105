"""Initial weights that already copy: previous-token heads and induction heads, built by hand.

From random weights a small model spends a large part of its training before it copies anything
(measured here: after 0.8 M tokens no digit of an argument was copied). Olsson et al. 2022 describe
the circuit that does it: heads of the first layer write which token stood before, heads of the next
look for an earlier place whose predecessor is the current token and write the token found there.
Both are simple enough to be set up in advance; training refines them and fills everything else.

Layout of the residual stream: dimension 0 is a constant, the first half holds a token's embedding,
the second half four signatures of the tokens one and two places back.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.llm.training.config import ModelShape, TrainingError
from services.llm.training.network import Block, Network

EMBEDDING_SCALE = 0.5  # large beside the updates of Muon, so that a token's identity stays readable
_CONSTANT = 8.0  # of the constant dimension, in embedding scales
_BACKGROUND = 0.2  # embedding scale of the second half, relative
_FINAL_GAIN = 0.08  # keeps the first logits near a standard deviation of 0.5
_POSITION_PAIRS = 8  # rotary pairs of high frequency that tell neighbours apart
_POSITION_STRENGTH = 6.0  # attention logit by which the wanted neighbour beats the next best
_SIGNATURE_SCALE = 0.5
_MATCH_STRENGTH = 10.0  # attention logit of a whole match
_COPY_SCALE = 0.5
_OFFSETS = (1, 2, 1, 2)  # places back that the first layer's heads look at


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes and random projections shared by the layers."""

    shape: ModelShape
    projections: tuple[Tensor, Tensor]

    @property
    def head(self) -> int:
        return self.shape.width // self.shape.n_heads

    @property
    def half(self) -> int:
        return self.shape.width // 2

    @property
    def signature(self) -> int:
        return self.half // 4

    def signature_rows(self, number: int) -> slice:
        start = self.half + number * self.signature
        return slice(start, start + self.signature)


def build_copying_circuits(network: Network, *, seed: int) -> None:
    """Overwrite a fresh network's weights in place; same seed, same weights.

    Raises:
        TrainingError: The shape has fewer than 3 layers or not 4 heads.
    """
    shape = network.shape
    if shape.n_layers < 3 or shape.n_heads != len(_OFFSETS):
        raise TrainingError(f"copying circuits need 3 layers and 4 heads, got {shape!r}")
    generator = torch.Generator().manual_seed(seed)
    signature = shape.width // 8
    first, second = (_orthogonal(shape.width // 2 - 1, generator)[:signature] for _ in range(2))
    layout = _Layout(shape=shape, projections=(first, second))
    with torch.no_grad():
        _embed(network, generator)
        _look_back(_block(network, 0), layout)
        for number in (1, 2):
            _find_and_copy(_block(network, number), layout, generator)


def _block(network: Network, number: int) -> Block:
    block = network.blocks[number]
    assert isinstance(block, Block)  # ModuleList forgets its element type
    return block


def _orthogonal(size: int, generator: torch.Generator) -> Tensor:
    q: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return q


def _embed(network: Network, generator: torch.Generator) -> None:
    embedding = network.embedding
    embedding.copy_(torch.randn(embedding.shape, generator=generator) * EMBEDDING_SCALE)
    embedding[:, network.shape.width // 2 :] *= _BACKGROUND
    embedding[:, 0] = _CONSTANT * EMBEDDING_SCALE
    network.norm.fill_(_FINAL_GAIN)


def _look_back(block: Block, layout: _Layout) -> None:
    """Set up each head to attend a fixed number of places back and to note the token there."""
    shape, head = layout.shape, layout.head
    pairs = torch.arange(_POSITION_PAIRS)
    frequencies = shape.rope_base ** (-2.0 * pairs / head)
    contrast = float((1 - frequencies.cos()).sum())
    # The constant's value after normalisation; half the width has the full scale.
    constant = _CONSTANT / ((_CONSTANT**2 + layout.half) / shape.width) ** 0.5
    strength = (_POSITION_STRENGTH * head**0.5 / contrast) ** 0.5 / constant
    for number, offset in enumerate(_OFFSETS):
        rows = number * head + pairs
        for weight in (block.query, block.key):
            weight[number * head : (number + 1) * head] *= 0.1
        block.query[rows, 0] = strength
        block.key[rows, 0] = strength * (offset * frequencies).cos()
        block.key[rows + head // 2, 0] = strength * (offset * frequencies).sin()
        projection = layout.projections[number // 2]
        block.value[number * head : number * head + layout.signature, :] = 0.0
        block.value[number * head : number * head + layout.signature, 1 : layout.half] = projection
        columns = torch.arange(number * head, number * head + layout.signature)
        targets = torch.arange(layout.half, shape.width)[number * layout.signature :]
        block.attention_out[targets[: layout.signature], columns] = _SIGNATURE_SCALE


def _find_and_copy(block: Block, layout: _Layout, generator: torch.Generator) -> None:
    """Set up heads that find where the current token came before and copy what followed it.

    Two heads match one token, two match the current token and the one before it, which tells the
    digits of different numbers apart. Matching uses the rotary pairs of lowest frequency, which
    hardly turn over a conversation's length.
    """
    head, signature, width = layout.head, layout.signature, layout.shape.width
    values = _orthogonal(width, generator)
    slow = torch.cat((torch.arange(head // 2 - signature // 2, head // 2),) * 2)
    slow[signature // 2 :] += head // 2
    strength = (_MATCH_STRENGTH * head**0.5 / signature / 0.5) ** 0.5
    for number in range(layout.shape.n_heads):
        source = number // 2 * 2  # the signature one back of this projection; the next is two back
        projection = layout.projections[number // 2]
        current = torch.zeros(signature, width)
        current[:, 1 : layout.half] = projection
        previous = torch.eye(width)[layout.signature_rows(source)]
        before_that = torch.eye(width)[layout.signature_rows(source + 1)]
        wanted, offered = current, previous
        if number % 2:
            half = signature // 2
            wanted = torch.cat((current[:half], previous[:half]))
            offered = torch.cat((previous[:half], before_that[:half]))
        for weight, content in ((block.query, wanted), (block.key, offered)):
            weight[number * head : (number + 1) * head] *= 0.1
            weight[number * head + slow] = content * strength
        rows = slice(number * head, (number + 1) * head)
        block.value[rows] = values[rows]
        block.attention_out[:, rows] = values[rows].T * _COPY_SCALE
