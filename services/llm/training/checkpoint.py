"""Atomic checkpoints: after a kill the newest whole one is there, never half of one."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.llm.training.config import ModelShape, TrainingError
from services.llm.training.muon import Optimizer
from services.llm.training.network import Network

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Optimiser steps done.
        data_position: Batches taken from the data with hash `data_sha256`; new data starts at 0.
        n_tokens: Tokens seen, padding excluded.
        seconds: Wall-clock seconds spent training, over all parts of the run.
        tokenizer_sha256: Of the vocabulary the weights were trained with; "" while only random
            tokens were seen.
    """

    step: int = 0
    data_position: int = 0
    n_tokens: int = 0
    seconds: float = 0.0
    data_sha256: str = ""
    tokenizer_sha256: str = ""
    seed: int = 0


def save_checkpoint(path: Path, network: Network, optimizer: Optimizer, progress: Progress) -> None:
    """Write weights, optimiser and position, then rename over the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    state = {
        "shape": asdict(network.shape),
        "weights": network.state_dict(),
        "optimizer": optimizer.state(),
        "progress": asdict(progress),
    }
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_weights(path: Path) -> tuple[ModelShape, dict[str, Tensor], Progress]:
    """Shape, weights and position of a checkpoint, without its optimiser."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return ModelShape(**state["shape"]), state["weights"], Progress(**state["progress"])


def restore_checkpoint(path: Path, network: Network, optimizer: Optimizer) -> Progress:
    """Put a checkpoint's state into a network and its optimiser.

    Raises:
        TrainingError: The checkpoint is of a model of another shape.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    shape = ModelShape(**state["shape"])
    if shape != network.shape:
        raise TrainingError(
            f"checkpoint {path.name!r} has {shape!r}, asked for {network.shape!r}; "
            "use another output folder"
        )
    network.load_state_dict(state["weights"])
    optimizer.restore(state["optimizer"]["muon"], state["optimizer"]["adam"])
    return Progress(**state["progress"])
