import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.llm.training.batches import induction_batch
from services.llm.training.circuits import build_copying_circuits
from services.llm.training.config import ModelShape, TrainingError
from services.llm.training.export import llama_config, llama_weights
from services.llm.training.network import Network
from services.llm.training.parallel import Workers
from services.llm.training.render import BEGIN, END, PADDING

SHAPE = ModelShape(vocabulary_size=120, n_layers=3, width=64, n_heads=4, hidden=96)
IDS = {PADDING: 0, BEGIN: 1, END: 2}


def randomised(seed: int) -> Network:
    network = Network(SHAPE, seed=seed, dtype=torch.float32)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def test_logits_equal_those_of_transformers_llama():
    network = randomised(1)
    llama = LlamaForCausalLM(LlamaConfig(**llama_config(SHAPE, token_ids=IDS)))
    weights = llama_weights(network.state_dict(), dtype=torch.float32)
    missing = llama.float().load_state_dict(weights, strict=False).missing_keys
    ids = torch.randint(0, 120, (2, 150))
    with torch.inference_mode():
        ours = network.logits(ids, torch.arange(300)).view(2, 150, 120)
        theirs = llama(input_ids=ids).logits
    assert set(missing) <= {"lm_head.weight"}
    assert torch.allclose(ours, theirs, atol=2e-4)


def test_right_padding_changes_nothing_before_it():
    network = randomised(2)
    ids = torch.randint(1, 120, (1, 140))
    padded = torch.cat((ids, torch.zeros(1, 30, dtype=torch.int64)), dim=1)
    with torch.inference_mode():
        assert torch.allclose(
            network.hidden_states(ids), network.hidden_states(padded)[:, :140], atol=1e-5
        )


def test_threads_give_the_gradient_of_the_whole_batch():
    network = randomised(3)
    batch = induction_batch(seed=1, step=1, vocabulary_size=120, n_tokens=512)
    loss = network.loss(batch.ids, batch.positions, batch.targets)
    whole = torch.autograd.grad(loss, list(network.parameters()))
    workers = Workers(2)
    shared = workers.accumulate(network, batch)
    workers.close()
    assert shared == pytest.approx(float(loss.detach()), rel=1e-4)
    for expected, parameter in zip(whole, network.parameters(), strict=True):
        assert torch.allclose(parameter.grad, expected, atol=1e-5)


def test_hand_built_circuits_copy_before_any_training():
    shape = ModelShape(vocabulary_size=600, n_layers=3, width=256, n_heads=4, hidden=64)
    network = Network(shape, seed=1)
    build_copying_circuits(network, seed=1)
    torch.manual_seed(0)
    once = torch.randperm(600)[:40]
    ids = torch.cat((once, once))[None]
    with torch.inference_mode():
        guesses = network.logits(ids, torch.arange(42, 79)).argmax(dim=-1)
    accuracy = float((guesses == ids[0, 43:80]).float().mean())
    assert accuracy > 0.7  # a network with random weights has 1 / 600


def test_circuits_refuse_a_shape_they_do_not_fit():
    shape = ModelShape(vocabulary_size=120, n_layers=2, width=64, n_heads=4, hidden=96)
    with pytest.raises(TrainingError, match="3 layers and 4 heads"):
        build_copying_circuits(Network(shape, seed=1), seed=1)
