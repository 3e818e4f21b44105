"""The training loop: batches in, a trained network and its log out.

Killed at any moment, the next call goes on from the last checkpoint with the batch that came next.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from services.llm.training.batches import Batch, induction_batch
from services.llm.training.checkpoint import (
    CHECKPOINT_NAME,
    Progress,
    restore_checkpoint,
    save_checkpoint,
)
from services.llm.training.circuits import build_copying_circuits
from services.llm.training.config import TrainingConfig, TrainingError, TrainingReport
from services.llm.training.corpus import (
    Conversation,
    ConversationStore,
    Encoder,
    files_sha256,
)
from services.llm.training.evaluate import score_turns
from services.llm.training.journal import Journal
from services.llm.training.muon import Optimizer
from services.llm.training.network import Network
from services.llm.training.parallel import Workers
from services.llm.training.schedule import Schedule
from services.llm.training.stream import DataStream
from services.llm.training.tokenizer import load_tokenizer

FINISHED_NAME = "decayed.pt"
_MAX_GRADIENT_NORM = 1.0  # only AdamW's part notices: Muon's update has one size for all gradients


@dataclass(frozen=True, slots=True)
class _Data:
    stream: DataStream
    sha256: str
    tokenizer_sha256: str
    n_conversations: int


class _Run:
    """The state of one running training."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.workers = Workers(config.threads)
        self.network = Network(config.shape, seed=config.seed)
        self.optimizer = Optimizer(
            self.network,
            muon_rate=config.muon_rate,
            adam_rate=config.adam_rate,
            weight_decay=config.weight_decay,
        )
        self.checkpoint = config.output / CHECKPOINT_NAME
        self.journal = Journal(config.output / "log.jsonl")
        self.recent_loss = float("nan")
        saved = Progress()
        if self.checkpoint.exists():
            saved = restore_checkpoint(self.checkpoint, self.network, self.optimizer)
        elif config.copying_circuits:
            build_copying_circuits(self.network, seed=config.seed)
        self.data = _open_data(config) if config.data else None
        self.progress = replace(self._at_this_data(saved), seed=config.seed)

    def _at_this_data(self, saved: Progress) -> Progress:
        """The position in the data: kept for the same files, 0 for other ones."""
        if self.data is None or saved.data_sha256 == self.data.sha256:
            return saved
        return replace(
            saved,
            data_position=0,
            data_sha256=self.data.sha256,
            tokenizer_sha256=self.data.tokenizer_sha256,
        )

    def batches(self) -> Iterator[tuple[str, Batch]]:
        """Kind and batch from the current position on, advancing the position of the data."""
        config, progress = self.config, self.progress
        stream = self.data.stream.batches(progress.data_position) if self.data else None
        while True:
            draw = np.random.default_rng((config.seed, 5, progress.step)).random()
            if stream is None or draw < config.induction_fraction:
                yield (
                    "induction",
                    induction_batch(
                        seed=config.seed,
                        step=progress.step,
                        vocabulary_size=config.shape.vocabulary_size,
                        n_tokens=config.tokens_per_batch,
                    ),
                )
            else:
                progress.data_position += 1
                yield "data", next(stream)

    def update(self, batch: Batch, factor: float) -> float:
        """One optimiser step; returns the batch's loss before it."""
        loss = self.workers.accumulate(self.network, batch)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT_NORM)
        self.optimizer.step(factor, self.workers.map)
        self.progress.step += 1
        self.progress.n_tokens += batch.n_tokens
        return loss

    def save(self, path: Path) -> None:
        save_checkpoint(path, self.network, self.optimizer, self.progress)


def _open_data(config: TrainingConfig) -> _Data:
    assert config.tokenizer is not None  # TrainingConfig refuses data without a tokenizer
    conversations = ConversationStore(config.data)
    stream = DataStream(
        conversations,
        Encoder(load_tokenizer(config.tokenizer)),
        seed=config.seed,
        tokens_per_batch=config.tokens_per_batch,
        max_tokens=config.max_tokens_per_conversation,
        value_swap_fraction=config.value_swap_fraction,
        word_drop_fraction=config.word_drop_fraction,
    )
    return _Data(
        stream=stream,
        sha256=files_sha256(config.data),
        tokenizer_sha256=files_sha256([config.tokenizer / "tokenizer.json"]),
        n_conversations=len(conversations),
    )


def train(config: TrainingConfig) -> TrainingReport:
    """Train until `max_steps` or `stop_at`, resuming from the output folder's checkpoint if any.

    The decay of the learning rate is never written over the stable checkpoint: `checkpoint.pt` is
    the last one before the decay (so the run can be given more time or data), `decayed.pt` the
    finished one.

    Raises:
        TrainingError: Data, tokenizer or checkpoint do not fit the configuration.
    """
    run = _Run(config)
    schedule = Schedule(
        warmup_steps=config.warmup_steps,
        decay_fraction=config.decay_fraction,
        max_steps=config.max_steps,
        stop_at=config.stop_at,
        started_at=time.time(),
    )
    run.journal.write(
        "started",
        run.progress.step,
        data_sha256=run.progress.data_sha256,
        n_tokens=run.progress.n_tokens,
    )
    try:
        _steps(run, schedule)
    finally:
        run.workers.close()
    run.save(config.output / FINISHED_NAME)
    report = _report(run)
    run.journal.write("finished", run.progress.step, **report.as_json())
    return report


def _steps(run: _Run, schedule: Schedule) -> None:
    config, progress = run.config, run.progress
    dev = _dev_conversations(config)
    saved_at = scored_at = time.monotonic()
    batches = run.batches()
    while not schedule.is_over(progress.step, time.time()):
        began = time.monotonic()
        factor = schedule.factor(progress.step, time.time())
        kind, batch = next(batches)
        run.journal.add(kind, run.update(batch, factor), batch.n_tokens)
        now = time.monotonic()
        progress.seconds += now - began
        if progress.step % config.log_interval_steps == 0:
            _log_step(run, factor)
        if now - saved_at > config.checkpoint_interval_s and not schedule.is_decaying(
            progress.step, time.time()
        ):
            run.save(run.checkpoint)
            saved_at = time.monotonic()
        if dev and now - scored_at > config.dev_interval_s:
            run.journal.write("dev", progress.step, **score_turns(run.network, *dev).as_json())
            scored_at = time.monotonic()


def _log_step(run: _Run, factor: float) -> None:
    taken = run.journal.take()
    loss = taken.get("data_loss", taken.get("induction_loss"))
    run.recent_loss = float(loss) if isinstance(loss, float) else run.recent_loss
    step = run.progress.step
    run.journal.write(
        "step", step, **taken, factor=round(factor, 4), n_tokens=run.progress.n_tokens
    )


def _dev_conversations(config: TrainingConfig) -> tuple[Encoder, list[Conversation]] | None:
    if config.dev_data is None or config.tokenizer is None:
        return None
    conversations = ConversationStore([config.dev_data])[: config.dev_conversations]
    return Encoder(load_tokenizer(config.tokenizer)), conversations


def _report(run: _Run) -> TrainingReport:
    progress = run.progress
    return TrainingReport(
        n_steps=progress.step,
        n_tokens=progress.n_tokens,
        n_parameters=sum(parameter.numel() for parameter in run.network.parameters()),
        loss=run.recent_loss,
        data_sha256=progress.data_sha256,
        n_conversations=run.data.n_conversations if run.data else 0,
        seed=run.config.seed,
        seconds=progress.seconds,
        tokens_per_second=progress.n_tokens / max(progress.seconds, 1e-9),
    )


def newest_weights(output: Path) -> Path:
    """The finished weights of a run's folder, or its last stable ones when it has not finished.

    Raises:
        TrainingError: The folder holds neither.
    """
    for name in (FINISHED_NAME, CHECKPOINT_NAME):
        if (output / name).exists():
            return output / name
    raise TrainingError(f"no checkpoint in {str(output)!r}; train first")
