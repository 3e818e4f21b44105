"""The model card: what the model is, what it was trained on, how well it does."""

from collections.abc import Mapping

from services.llm.training.checkpoint import Progress
from services.llm.training.config import ModelShape


def n_parameters(shape: ModelShape) -> int:
    """Trained numbers, tied embeddings counted once."""
    per_block = 4 * shape.width**2 + 3 * shape.width * shape.hidden + 2 * shape.width
    return shape.vocabulary_size * shape.width + shape.n_layers * per_block + shape.width


def model_card(
    shape: ModelShape,
    progress: Progress,
    *,
    scores: Mapping[str, float],
    hardware: str,
    notes: str = "",
) -> str:
    """The Markdown text.

    Args:
        shape: Size of the model.
        progress: Where its training ended.
        scores: Name to value in [0, 1].
        hardware: What it was trained on, in words.
        notes: Appended as they are.
    """
    rows = (
        "\n".join(f"| {name} | {value:.3f} |" for name, value in scores.items())
        or "| none measured | |"
    )
    return f"""# Toolwright's bundled model

A demonstration model: it shows that the system works end to end on a laptop without a network.
It knows the bundled toolset and little else. Point `LLM_BASE_URL` and
`LLM_MODEL` to a real model for real work.

| | |
| --- | --- |
| architecture | LLaMA (`LlamaForCausalLM`), {shape.n_layers} layers, width {shape.width}, \
{shape.n_heads} heads of {shape.width // shape.n_heads}, feed-forward {shape.hidden}, \
tied embeddings |
| parameters | {n_parameters(shape):,} (bf16) |
| vocabulary | {shape.vocabulary_size} byte-pair tokens, byte fallback |
| weights | trained from scratch, no other model involved; the first weights hold hand-built \
copying heads (`services/llm/training/circuits.py`) |
| data | trajectories written by `services/dataset`: the planner with an oracle policy over the \
bundled tools; SHA-256 of the last files `{progress.data_sha256 or "none"}` |
| steps | {progress.step:,} |
| tokens | {progress.n_tokens:,} |
| time | {progress.seconds / 60:.0f} minutes |
| seed | {progress.seed} |
| hardware | {hardware} |
| optimiser | Muon (Jordan et al. 2024) for matrices, AdamW for the rest; warm-up, stable, decay |

## Scores on held-out instructions
| score | value |
| --- | --- |
{rows}

{notes}"""
