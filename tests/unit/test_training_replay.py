"""Replayed forward and backward passes give the gradients of plain ones. Needs a GPU."""

from __future__ import annotations

import pytest
import torch

from avskrift.training.replay import Replays

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


def test_gradients_of_replayed_parts_are_those_of_plain_ones_for_every_shape() -> None:
    torch.manual_seed(1)
    layers = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 8)).cuda()
    gradients = torch.zeros(sum(parameter.numel() for parameter in layers.parameters()), device="cuda")
    at = 0
    for parameter in layers.parameters():
        parameter.grad = gradients[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()

    def compute(given: torch.Tensor, share: torch.Tensor) -> None:
        (layers(given).square().mean() * share).backward()

    parts = [(torch.randn(rows, 32, device="cuda"), torch.full((), 0.5, device="cuda")) for rows in (4, 8, 4, 4, 8, 8, 4)]

    def summed(call) -> torch.Tensor:  # type: ignore[no-untyped-def]
        gradients.zero_()
        for part in parts:
            call(*part)
        torch.cuda.synchronize()
        return gradients.clone()

    plain, replays = summed(compute), Replays(compute)
    for _ in range(3):
        torch.testing.assert_close(summed(replays), plain)


def test_a_replayed_part_meets_new_dropout_each_time_and_the_same_after_the_same_seed() -> None:
    seen = torch.zeros(1000, device="cuda")
    weight = torch.nn.Parameter(torch.ones(1000, device="cuda"))
    weight.grad = torch.zeros_like(weight)

    def compute(given: torch.Tensor) -> None:
        seen.copy_(torch.nn.functional.dropout(weight.detach() * given, p=0.5))

    replays, given, masks = Replays(compute), torch.ones(1000, device="cuda"), []
    for seed in (1, 2, 3, 4, 3):
        torch.manual_seed(seed)
        replays(given)
        masks.append(seen.clone())
    assert not torch.equal(masks[2], masks[3])
    assert torch.equal(masks[2], masks[4])
