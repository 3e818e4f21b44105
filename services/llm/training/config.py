"""What a training run is asked for and what it gives back."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

JsonScalar: TypeAlias = "str | int | float | bool | None"


class TrainingError(ValueError):
    """A run that cannot start: bad configuration, bad data or a checkpoint that does not fit."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Size of a LLaMA-architecture model (Touvron et al. 2023) with tied embeddings.

    Measured on 2 cores with bf16 dot products: 4 heads of 64 train a third faster than 8 of 32,
    because the attention of short sequences is bound by the exponentials, whose number grows with
    the heads.
    """

    vocabulary_size: int = 2048
    n_layers: int = 5
    width: int = 256
    n_heads: int = 4
    hidden: int = 704
    rope_base: float = 500_000.0
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.width % self.n_heads or (self.width // self.n_heads) % 2:
            raise TrainingError(
                f"width {self.width!r} must be n_heads={self.n_heads} times an even number"
            )


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One run. The same configuration, data and seed give the same batches in the same order.

    Attributes:
        output: Folder of the run: checkpoint, log, exported model.
        data: Training files (JSONL or JSONL.GZ); empty means pre-training on repeated random tokens
            only.
        tokenizer: Folder with `tokenizer.json`; needed with data.
        dev_data: Held-out file scored now and then while training; `None` scores nothing.
        copying_circuits: Start from the weights of `circuits`, not from random ones.
        tokens_per_batch: Tokens of one optimiser step, padding included.
        max_tokens_per_conversation: Longer conversations are left out.
        max_steps: Optimiser steps in all; `None` means until the time is up.
        stop_at: Unix seconds by which the run has decayed its learning rate and saved; `None` means
            no such time.
        decay_fraction: Part of the remaining run given to the final decay of the learning rate.
        muon_rate: Peak learning rate of the matrices.
        adam_rate: Peak learning rate of embeddings and norms.
        induction_fraction: Share of batches of repeated random tokens mixed into the data.
        value_swap_fraction: Share of conversations in which argument values are replaced by random
            ones everywhere.
        word_drop_fraction: Share of conversations whose instruction loses words at random.
        checkpoint_interval_s: Seconds between checkpoints; a kill loses at most this much work.
    """

    output: Path
    data: tuple[Path, ...] = ()
    tokenizer: Path | None = None
    dev_data: Path | None = None
    shape: ModelShape = field(default_factory=ModelShape)
    seed: int = 7
    copying_circuits: bool = True
    tokens_per_batch: int = 4096
    max_tokens_per_conversation: int = 2048
    max_steps: int | None = None
    stop_at: float | None = None
    decay_fraction: float = 0.2
    warmup_steps: int = 40
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    weight_decay: float = 0.01
    induction_fraction: float = 0.03
    value_swap_fraction: float = 0.3
    word_drop_fraction: float = 0.3
    threads: int = 2
    checkpoint_interval_s: float = 120.0
    log_interval_steps: int = 10
    dev_interval_s: float = 300.0
    dev_conversations: int = 100

    def __post_init__(self) -> None:
        if self.data and self.tokenizer is None:
            raise TrainingError("training on data needs tokenizer=<folder with tokenizer.json>")
        if self.max_tokens_per_conversation > self.tokens_per_batch:
            raise TrainingError(
                f"max_tokens_per_conversation {self.max_tokens_per_conversation!r} exceeds "
                f"tokens_per_batch={self.tokens_per_batch}; raise the batch or lower the limit"
            )
        if self.max_steps is None and self.stop_at is None:
            raise TrainingError("a run needs an end: give max_steps or stop_at")
        if not 0.0 < self.decay_fraction <= 1.0:
            raise TrainingError(f"decay_fraction {self.decay_fraction!r} is outside (0, 1]")


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a run did; goes into the model card.

    Attributes:
        n_tokens: Tokens of data and of random repeats that went through the model, padding
            excluded.
        n_parameters: Trained numbers, tied embeddings counted once.
        loss: Mean cross-entropy in nats per trained token over the last logged steps.
        data_sha256: Hash of the training files in order; "" without data.
        seconds: Wall-clock time over all resumed parts.
    """

    n_steps: int
    n_tokens: int
    n_parameters: int
    loss: float
    data_sha256: str
    n_conversations: int
    seed: int
    seconds: float
    tokens_per_second: float

    def as_json(self) -> dict[str, JsonScalar]:
        """All fields by name."""
        return asdict(self)
