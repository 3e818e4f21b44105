"""`toolwright data`: makes the bundled instructions and the training conversations."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings

app = typer.Typer(help="Construct instructions and training data.", no_args_is_help=True)


@app.command()
def instructions(
    seed: Annotated[int, typer.Option(help="Seed of the values.")] = 7,
) -> None:
    """Rewrite data/instructions/*.json from the intents; answers come from the real tools."""
    from infra.embedded.assets import bundled_instructions
    from infra.embedded.construction import write_bundled_instructions

    configure_logging("WARNING")
    written = asyncio.run(
        write_bundled_instructions(
            shared=SharedSettings(), instructions=bundled_instructions(), seed=seed
        )
    )
    for name, count in written.items():
        print(f"{name}: {count} instructions")


@app.command()
def trajectories(
    output: Annotated[Path, typer.Argument(help="Target file, .jsonl.gz.")],
    count: Annotated[int, typer.Option(min=1, help="Instructions to solve.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of instructions and policy.")] = 1,
    split: Annotated[str, typer.Option(help="train or dev.")] = "train",
    retrieved: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction offered what the retriever finds.")
    ] = 0.5,
) -> None:
    """Solve instructions with the oracle policy over the real tools and write conversations."""
    from infra.embedded.assets import bundled_instructions
    from infra.embedded.construction import write_trajectories
    from services.contracts.errors import InvalidArgument
    from services.dataset.trajectories import TrajectoryConfig

    if split not in ("train", "dev"):
        raise InvalidArgument(f"--split {split!r}: only 'train' and 'dev' may be trained on")
    configure_logging("WARNING")
    config = TrajectoryConfig(
        n_instructions=count,
        seed=seed,
        split="train" if split == "train" else "dev",
        retrieved_fraction=retrieved,
    )
    written = asyncio.run(
        write_trajectories(
            shared=SharedSettings(),
            instructions=bundled_instructions(),
            config=config,
            output=output,
        )
    )
    print(f"{output}: {written} conversations of {count} instructions")
