"""The moving average of the weights: what it comes to, and that the model can wear it for a while."""

from __future__ import annotations

import pytest
import torch

from avskrift.training.average import Average


@pytest.fixture
def weights() -> dict[str, torch.nn.Parameter]:
    return {"a": torch.nn.Parameter(torch.tensor([1.0, 2.0])), "b": torch.nn.Parameter(torch.tensor([[3.0]]))}


def _move(weights: dict[str, torch.nn.Parameter], step: int) -> None:
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(step)


def test_it_follows_the_weights_at_first_faster(weights: dict[str, torch.nn.Parameter]) -> None:
    average, expected = Average(weights, 0.5), torch.tensor([1.0, 2.0])
    for step in range(1, 20):
        _move(weights, step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights["a"].detach()
    torch.testing.assert_close(average.tensors["a"], expected)


def test_the_model_has_it_for_a_while_and_then_its_own_weights_again_bit_for_bit(weights: dict[str, torch.nn.Parameter]) -> None:
    average = Average(weights, 0.9)
    _move(weights, 1)
    average.update(1)
    own, kept = ({name: tensor.detach().clone() for name, tensor in tensors.items()} for tensors in (weights, average.tensors))
    with average.in_place():
        assert all(torch.equal(weights[name], kept[name]) for name in weights)
        assert not torch.equal(weights["a"], own["a"])
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert all(torch.equal(weights[name], own[name]) and torch.equal(average.tensors[name], kept[name]) for name in weights)
    assert all(weight.requires_grad for weight in weights.values())


def test_one_that_was_put_back_goes_on_as_if_it_had_never_stopped(weights: dict[str, torch.nn.Parameter]) -> None:
    whole = Average(weights, 0.9)
    for step in (1, 2):
        _move(weights, step)
        whole.update(step)
    resumed = Average(weights, 0.9)
    for name, tensor in resumed.tensors.items():
        tensor.copy_(whole.tensors[name])
    _move(weights, 3)
    for average in (whole, resumed):
        average.update(3)
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole.tensors.items())
