"""Train the bundled model from the command line: `python -m services.llm.training`."""

import argparse
import json
import time
from datetime import datetime
from pathlib import Path

from services.llm.training.config import ModelShape, TrainingConfig
from services.llm.training.corpus import ConversationStore, Encoder
from services.llm.training.evaluate import score_turns
from services.llm.training.export import export_model, load_network
from services.llm.training.loop import newest_weights, train
from services.llm.training.tokenizer import load_tokenizer


def main(arguments: list[str] | None = None) -> None:
    """Train and, when asked, export; prints the report and the scores as JSON lines."""
    options = _parser().parse_args(arguments)
    if not options.export_only:
        print(json.dumps(train(_config(options)).as_json()))
    if options.export is not None:
        print(json.dumps(_export(options)))


def _config(options: argparse.Namespace) -> TrainingConfig:
    return TrainingConfig(
        output=options.output,
        data=tuple(options.data),
        tokenizer=options.tokenizer,
        dev_data=options.dev,
        shape=ModelShape(
            vocabulary_size=options.vocabulary_size, n_layers=options.layers, width=options.width
        ),
        seed=options.seed,
        tokens_per_batch=options.tokens_per_batch,
        max_steps=options.max_steps,
        stop_at=_stop_at(options),
        decay_fraction=options.decay_fraction,
        muon_rate=options.muon_rate,
        adam_rate=options.adam_rate,
        induction_fraction=options.induction_fraction,
        value_swap_fraction=options.value_swap_fraction,
        word_drop_fraction=options.word_drop_fraction,
        threads=options.threads,
        checkpoint_interval_s=options.checkpoint_interval_s,
    )


def _export(options: argparse.Namespace) -> dict[str, float]:
    """Score the newest weights on `--score` files, then write the model folder."""
    checkpoint = newest_weights(options.output)
    network = load_network(checkpoint)
    encoder = Encoder(load_tokenizer(options.tokenizer))
    scores = {}
    for path in options.score:
        turns = score_turns(network, encoder, ConversationStore([path]))
        for name, value in turns.as_json().items():
            if isinstance(value, float):
                scores[f"{path.name.split('.')[0]}: {name} (teacher-forced)"] = value
    notes = options.notes.read_text(encoding="utf-8") if options.notes else ""
    export_model(
        checkpoint,
        tokenizer=options.tokenizer,
        folder=options.export,
        scores=scores,
        notes=notes,
    )
    return scores


def _stop_at(options: argparse.Namespace) -> float | None:
    if options.minutes is not None:
        minutes: float = options.minutes
        return time.time() + minutes * 60
    if options.stop_at is None:
        return None
    stop_at: datetime = options.stop_at
    return stop_at.astimezone().timestamp()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.llm.training", description=__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="*", default=[], help="training files; none: random repeats only"
    )
    parser.add_argument("--dev", type=Path, help="held-out file scored every few minutes")
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the run; an existing run is resumed"
    )
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--minutes", type=float, help="wall-clock minutes from now, decay included")
    end.add_argument(
        "--stop-at",
        type=datetime.fromisoformat,
        help="local wall-clock time, ISO, e.g. 2026-11-21T07:15, decay included",
    )
    end.add_argument(
        "--max-steps", type=int, help="optimiser steps in all, over every resumed part"
    )
    end.add_argument(
        "--export-only", action="store_true", help="do not train, export what is there"
    )
    parser.add_argument("--export", type=Path, help="folder for the finished model")
    parser.add_argument(
        "--score", type=Path, nargs="*", default=[], help="held-out files, for the card"
    )
    parser.add_argument("--notes", type=Path, help="Markdown file appended to the model card")
    defaults = TrainingConfig(output=Path(), max_steps=1)
    parser.add_argument("--vocabulary-size", type=int, default=defaults.shape.vocabulary_size)
    parser.add_argument("--layers", type=int, default=defaults.shape.n_layers)
    parser.add_argument("--width", type=int, default=defaults.shape.width)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    for name in ("tokens_per_batch", "threads"):
        parser.add_argument(
            "--" + name.replace("_", "-"), type=int, default=getattr(defaults, name)
        )
    for name in (
        "decay_fraction",
        "muon_rate",
        "adam_rate",
        "induction_fraction",
        "value_swap_fraction",
        "word_drop_fraction",
        "checkpoint_interval_s",
    ):
        parser.add_argument(
            "--" + name.replace("_", "-"), type=float, default=getattr(defaults, name)
        )
    return parser


if __name__ == "__main__":
    main()
