"""Writes a network as a folder for `transformers` and vLLM: bf16 under LLaMA's names."""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.llm.training.checkpoint import Progress, load_weights
from services.llm.training.config import ModelShape, TrainingError
from services.llm.training.model_card import model_card
from services.llm.training.network import Network
from services.llm.training.render import BEGIN, END, PADDING
from services.llm.training.tokenizer import CHAT_TEMPLATE, MAX_POSITIONS, load_tokenizer

MAX_EXPORT_BYTES = 60_000_000  # the model is committed with the code

_BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention_out": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def llama_weights(
    weights: Mapping[str, Tensor], *, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """Rename to `LlamaForCausalLM`'s names; the tied output layer is left out, as there."""
    renamed = {
        "model.embed_tokens.weight": weights["embedding"],
        "model.norm.weight": weights["norm"],
    }
    for name, weight in weights.items():
        if name.startswith("blocks."):
            _, number, own = name.split(".")
            renamed[f"model.layers.{number}.{_BLOCK_NAMES[own]}.weight"] = weight
    return {name: weight.to(dtype).contiguous() for name, weight in renamed.items()}


def llama_config(shape: ModelShape, *, token_ids: Mapping[str, int]) -> dict[str, object]:
    """Content of `config.json`; `token_ids` maps BEGIN, END and PADDING to their ids."""
    head = shape.width // shape.n_heads
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_heads,
        "head_dim": head,
        "hidden_act": "silu",
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "bos_token_id": token_ids[BEGIN],
        "eos_token_id": token_ids[END],
        "pad_token_id": token_ids[PADDING],
        "dtype": "bfloat16",
        # Ours: it was trained to propose calls, and answers nothing else.
        "follows_instructions": False,
    }


def load_network(checkpoint: Path) -> Network:
    """The network of a checkpoint, ready for scoring."""
    shape, weights, _ = load_weights(checkpoint)
    network = Network(shape, seed=0)
    network.load_state_dict(weights)
    return network


def export_model(
    checkpoint: Path, *, tokenizer: Path, folder: Path, scores: Mapping[str, float], notes: str = ""
) -> Progress:
    """Write weights, configuration, tokenizer, chat template and model card.

    Args:
        checkpoint: A file of `save_checkpoint`.
        tokenizer: Folder of `save_tokenizer`.
        folder: Created or overwritten file by file.
        scores: Name of a held-out score to its value in [0, 1], for the model card.
        notes: Further Markdown for the model card.

    Raises:
        TrainingError: The tokenizer does not fit the weights, or the export is larger than 60 MB.
    """
    shape, weights, progress = load_weights(checkpoint)
    vocabulary = load_tokenizer(tokenizer)
    if vocabulary.get_vocab_size() > shape.vocabulary_size:
        raise TrainingError(
            f"tokenizer has {vocabulary.get_vocab_size()} tokens, "
            f"the weights {shape.vocabulary_size}; export with the tokenizer of the run"
        )
    known = vocabulary.get_vocab()
    token_ids = {token: known[token] for token in (BEGIN, END, PADDING)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(llama_weights(weights), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # written private; a container's user reads it
    _write_json(folder / "config.json", llama_config(shape, token_ids=token_ids))
    _write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": token_ids[BEGIN],
            "eos_token_id": token_ids[END],
            "pad_token_id": token_ids[PADDING],
            "do_sample": False,
            "max_new_tokens": 256,
        },
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    shutil.copyfile(CHAT_TEMPLATE, folder / CHAT_TEMPLATE.name)
    card = model_card(shape, progress, scores=scores, hardware=_hardware(), notes=notes)
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    if size > MAX_EXPORT_BYTES:
        raise TrainingError(
            f"the export has {size} bytes, the limit is {MAX_EXPORT_BYTES}; train a smaller shape"
        )
    return progress


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _hardware() -> str:
    return f"{os.cpu_count()} cores of an {platform.machine()} CPU, torch {torch.__version__}"
