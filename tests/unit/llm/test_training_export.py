import dataclasses

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.llm.training.checkpoint import Progress, save_checkpoint
from services.llm.training.config import ModelShape, TrainingError
from services.llm.training.export import export_model, load_network
from services.llm.training.muon import Optimizer
from services.llm.training.network import Network
from services.llm.training.render import render_conversation
from services.llm.training.tokenizer import save_tokenizer
from tests.unit.llm.training_conversations import TOOLS, record, small_tokenizer

SHAPE = ModelShape(vocabulary_size=512, n_layers=3, width=64, n_heads=4, hidden=96)


def exported(folder, shape=SHAPE):
    network = Network(shape, seed=1)
    optimizer = Optimizer(network, muon_rate=0.02, adam_rate=1e-3, weight_decay=0.0)
    progress = Progress(step=12, n_tokens=3400, seconds=60.0, data_sha256="ab12", seed=7)
    save_checkpoint(folder / "checkpoint.pt", network, optimizer, progress)
    save_tokenizer(small_tokenizer(folder), folder / "tokenizer")
    export_model(
        folder / "checkpoint.pt",
        tokenizer=folder / "tokenizer",
        folder=folder / "model",
        scores={"dev: call_exact": 0.5},
    )
    return folder / "model"


def test_transformers_opens_the_export_and_continues_the_same_prompt(tmp_path):
    folder = exported(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = render_conversation(record(1)["messages"][:2], TOOLS, add_generation_prompt=True)
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    network = load_network(tmp_path / "checkpoint.pt")
    with torch.inference_mode():
        theirs = model.float()(input_ids=ids).logits[0, -1]
        ours = network.logits(ids, torch.tensor([ids.shape[1] - 1]))[0]
    assert torch.nn.functional.cosine_similarity(theirs, ours, dim=0) > 0.99
    assert model.dtype == torch.float32 and model.config.tie_word_embeddings


def test_the_weights_are_stored_in_bf16(tmp_path):
    folder = exported(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == 2


def test_the_model_card_states_the_run(tmp_path):
    card = (exported(tmp_path) / "MODEL_CARD.md").read_text()
    for fact in ("ab12", "| steps | 12 |", "3,400", "| seed | 7 |", "0.500", "from scratch"):
        assert fact in card


def test_a_tokenizer_larger_than_the_weights_is_refused(tmp_path):
    small = dataclasses.replace(SHAPE, vocabulary_size=100)
    with pytest.raises(TrainingError, match="export with the tokenizer of the run"):
        exported(tmp_path, small)
