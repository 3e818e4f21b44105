"""`toolwright train`: trains models on files that `toolwright data` wrote."""

import time
from pathlib import Path
from typing import Annotated

import typer

from services.contracts.errors import InvalidArgument
from services.kit.logging import configure_logging

app = typer.Typer(help="Train models.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train models."""


@app.command()
def bundled(
    data: Annotated[list[Path], typer.Option(help="Training file (.jsonl.gz); repeat it.")],
    output: Annotated[Path, typer.Option(help="Folder of the run; an existing run is resumed.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Wall clock from now.")] = 60.0,
    dev: Annotated[Path | None, typer.Option(help="Held-out file, scored now and then.")] = None,
    seed: Annotated[int, typer.Option()] = 7,
    threads: Annotated[int, typer.Option(min=1, max=256)] = 2,
) -> None:
    """Train the embedded model from scratch and export it to OUTPUT/model."""
    from services.llm.training.config import TrainingConfig, TrainingError  # heavy: torch
    from services.llm.training.corpus import ConversationStore
    from services.llm.training.export import export_model
    from services.llm.training.loop import newest_weights, train
    from services.llm.training.tokenizer import save_tokenizer, train_tokenizer
    from services.llm.training.vocabulary import tokenizer_texts

    configure_logging("INFO")
    tokenizer = output / "tokenizer"
    try:
        if not (tokenizer / "tokenizer.json").exists():
            texts = tokenizer_texts(ConversationStore(data))
            save_tokenizer(train_tokenizer(texts, min_frequency=3), tokenizer)
        config = TrainingConfig(
            output=output,
            data=tuple(data),
            tokenizer=tokenizer,
            dev_data=dev,
            seed=seed,
            threads=threads,
            stop_at=time.time() + minutes * 60,
        )
        report = train(config)
        export_model(
            newest_weights(output), tokenizer=tokenizer, folder=output / "model", scores={}
        )
    except TrainingError as exc:
        raise InvalidArgument(str(exc)) from exc
    print(f"{report.n_steps} steps, {report.n_tokens} tokens, loss {report.loss:.3f}")
    print(f"model: {output / 'model'}")
