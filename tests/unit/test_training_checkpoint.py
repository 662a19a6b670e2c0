"""A checkpoint brings back weights, optimizer and random state bit for bit, and takes no more room than it must."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import WhisperForConditionalGeneration

from avskrift.errors import CheckpointError
from avskrift.training.checkpoint import Checkpoints, Progress
from avskrift.whisper.transformers_folder import load_model

JOB, OTHER_JOB = "a" * 64, "b" * 64


class Small(nn.Module):
    """Some decayed weights, some that are not, and one that is never trained."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(4, 8)
        self.norm = nn.LayerNorm(8)
        self.frozen = nn.Parameter(torch.rand(3), requires_grad=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.norm(self.first(inputs))
        return hidden.pow(2).mean() * torch.rand(1).squeeze()


def test_training_goes_on_bit_for_bit_where_the_checkpoint_left_it(tmp_path: Path) -> None:
    model = Small(1)
    optimizer = _optimizer(model)
    progress = Progress()
    for step in range(1, 4):
        progress = Progress(step=step, curve=(*progress.curve, (step, "train_loss", _step(model, optimizer))))
    Checkpoints(tmp_path, JOB).save(model, optimizer, progress)
    on = [_step(model, optimizer) for _ in range(3)]

    resumed = Small(2)
    resumed_optimizer = _optimizer(resumed)
    assert Checkpoints(tmp_path, JOB).resume(resumed, resumed_optimizer) == progress
    assert [_step(resumed, resumed_optimizer) for _ in range(3)] == on
    _assert_equal(resumed, model)
    _assert_equal_state(resumed_optimizer, optimizer)


def test_a_checkpoint_before_the_first_step_is_one_too(tmp_path: Path) -> None:
    model = Small(1)
    Checkpoints(tmp_path, JOB).save(model, _optimizer(model), Progress())
    resumed = Small(2)
    assert Checkpoints(tmp_path, JOB).resume(resumed, _optimizer(resumed)) == Progress()
    _assert_equal(resumed, model)


def test_a_whispers_tied_output_layer_is_still_its_embeddings_after_a_resume(tmp_path: Path, tiny_whisper: Path) -> None:
    model, resumed = (load_model(tiny_whisper, torch.device("cpu")) for _ in range(2))
    optimizer, resumed_optimizer = _optimizer(model), _optimizer(resumed)
    _whisper_step(model, optimizer)
    Checkpoints(tmp_path, JOB).save(model, optimizer, Progress(step=1))
    Checkpoints(tmp_path, JOB).resume(resumed, resumed_optimizer)
    assert resumed.proj_out.weight is resumed.model.decoder.embed_tokens.weight
    for either, its_optimizer in ((model, optimizer), (resumed, resumed_optimizer)):
        _whisper_step(either, its_optimizer)
    _assert_equal(resumed, model)


def test_without_a_checkpoint_nothing_is_changed(tmp_path: Path) -> None:
    model = Small(1)
    assert Checkpoints(tmp_path, JOB).resume(model, _optimizer(model)) is None
    _assert_equal(model, Small(1))


def test_only_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints = Checkpoints(tmp_path, JOB)
    for step in (1, 2, 10, 100):
        checkpoints.save(model, _optimizer(model), Progress(step=step))
    assert _names(tmp_path) == ["step-00000010", "step-00000100"]


def test_best_weights_are_kept_as_long_as_a_checkpoint_names_them(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints, optimizer, progress = Checkpoints(tmp_path, JOB), _optimizer(model), Progress()
    for step in (10, 20):
        _step(model, optimizer)
        progress = _best(checkpoints, model, step)
        checkpoints.save(model, optimizer, progress)
    assert _names(tmp_path) == ["best-00000010.safetensors", "best-00000020.safetensors", "step-00000010", "step-00000020"]
    for step in (30, 40):
        checkpoints.save(model, optimizer, Progress(step=step, best_wer=0.5, best_step=20, best_sha256=progress.best_sha256))
    assert _names(tmp_path) == ["best-00000020.safetensors", "step-00000030", "step-00000040"]


def test_the_best_weights_come_back_and_not_the_last(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints = Checkpoints(tmp_path, JOB)
    progress = _best(checkpoints, model, 1)
    _step(model, _optimizer(model))
    checkpoints.load_best(model, progress)
    _assert_equal(model, Small(1))


def test_a_validation_that_no_checkpoint_saw_leaves_nothing_for_the_resumed_run_to_meet(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints, optimizer = Checkpoints(tmp_path, JOB), _optimizer(model)
    first = _best(checkpoints, model, 10)
    checkpoints.save(model, optimizer, first)
    _step(model, optimizer)
    _best(checkpoints, model, 20)  # and killed before the next checkpoint

    resumed = Small(2)
    again = Checkpoints(tmp_path, JOB)
    assert again.resume(resumed, _optimizer(resumed)) == first
    again.load_best(resumed, first)
    _assert_equal(resumed, Small(1))
    assert _names(tmp_path) == ["best-00000010.safetensors", "step-00000010"]


def test_best_weights_without_any_checkpoint_are_swept_when_training_starts_anew(tmp_path: Path) -> None:
    model = Small(1)
    _best(Checkpoints(tmp_path, JOB), model, 5)
    assert Checkpoints(tmp_path, JOB).resume(model, _optimizer(model)) is None
    assert _names(tmp_path) == []


def test_the_checkpoint_of_another_job_is_never_used(tmp_path: Path) -> None:
    model = Small(1)
    Checkpoints(tmp_path, JOB).save(model, _optimizer(model), Progress(step=1))
    fresh = Small(2)
    assert Checkpoints(tmp_path, OTHER_JOB).resume(fresh, _optimizer(fresh)) is None
    _assert_equal(fresh, Small(2))


def test_the_checkpoint_of_a_job_with_the_same_short_name_is_never_used(tmp_path: Path) -> None:
    model = Small(1)
    Checkpoints(tmp_path, JOB).save(model, _optimizer(model), Progress(step=1))
    fresh = Small(2)
    with pytest.raises(CheckpointError, match="none of 1 checkpoints is whole"):
        Checkpoints(tmp_path, JOB[:16] + "c" * 48).resume(fresh, _optimizer(fresh))
    _assert_equal(fresh, Small(2))


def test_a_finished_job_leaves_nothing_and_touches_no_other(tmp_path: Path) -> None:
    model = Small(1)
    for job in (JOB, OTHER_JOB):
        Checkpoints(tmp_path, job).save(model, _optimizer(model), Progress(step=1))
    Checkpoints(tmp_path, JOB).remove()
    assert _names(tmp_path, JOB) == []
    assert _names(tmp_path, OTHER_JOB) == ["step-00000001"]


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    """As the training loop makes it: fused, in two groups."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": 0.1},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), fused=True)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = model(torch.rand(5, 4))
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _whisper_step(model: WhisperForConditionalGeneration, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model.proj_out(model.model.decoder.layer_norm(model.model.decoder.embed_tokens(torch.tensor([[1, 2]])))).pow(2).mean().backward()
    optimizer.step()


def _best(checkpoints: Checkpoints, model: nn.Module, step: int) -> Progress:
    return Progress(step=step, best_wer=0.5, best_step=step, best_sha256=checkpoints.save_best(model, step))


def _names(folder: Path, job: str = JOB) -> list[str]:
    return sorted(path.name for path in (folder / job[:16]).glob("*"))


def _assert_equal(one: nn.Module, other: nn.Module) -> None:
    others = dict(other.named_parameters())
    assert others
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, others[name]), name


def _assert_equal_state(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, entry in theirs["state"].items():
        for name, value in entry.items():
            mine = ours["state"][index][name]
            assert torch.equal(mine, value), (index, name)
            assert (mine.dtype, mine.shape, mine.device) == (value.dtype, value.shape, value.device)
