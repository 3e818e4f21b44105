import pytest
import torch

from services.llm.training.muon import Muon, orthogonalize


def test_orthogonalised_updates_have_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((3, 32, 32), (2, 64, 16), (2, 16, 64)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)).float())
        assert values.max() < 1.3
        assert values.median() > 0.6


def test_an_update_is_independent_of_the_gradients_size():
    torch.manual_seed(0)
    gradient = torch.randn(8, 8)
    small, large = (torch.nn.Parameter(torch.zeros(8, 8)) for _ in range(2))
    small.grad, large.grad = gradient * 1e-3, gradient * 1e3
    Muon([small]).step(0.1)
    Muon([large]).step(0.1)
    similarity = torch.nn.functional.cosine_similarity(small.flatten(), large.flatten(), dim=0)
    assert similarity > 0.99
    assert (small.norm() / large.norm()).item() == pytest.approx(1.0, abs=0.05)
    assert small.abs().max() > 0.01


def test_a_restored_state_goes_on_alike():
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(8, 8)) for _ in range(2)]
    gradients = torch.randn(2, 8, 8)
    first = Muon([weights[0]])
    weights[0].grad = gradients[0]
    first.step(0.1)
    with torch.no_grad():
        weights[1].copy_(weights[0])
    second = Muon([weights[1]])
    second.restore(first.state())
    weights[0].grad = weights[1].grad = gradients[1]
    first.step(0.1)
    second.step(0.1)
    assert torch.equal(weights[0], weights[1])
