"""Checkpoints that were cut short, changed, or could not be written: the one before is used, or a clear sentence said."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from avskrift.errors import CheckpointError, DiskFullError
from avskrift.training import checkpoint
from avskrift.training.checkpoint import Checkpoints, Progress

JOB = "a" * 64
FOLDER = JOB[:16]


def _cut_short(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _flip_a_bit_in_the_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _flip_a_bit_in_a_digit_of_the_step(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"step": 2', b'"step": 3'))


def _remove(file: Path) -> None:
    file.unlink()


def _write_a_list(file: Path) -> None:
    file.write_text("[1, 2]", encoding="utf-8")


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    *[
        (name, damage)
        for name in ("weights.safetensors", "optimizer.safetensors", "state.json")
        for damage in (_cut_short, _empty, _flip_a_bit_in_the_middle, _remove)
    ],
    ("state.json", _flip_a_bit_in_a_digit_of_the_step),
    ("state.json", _write_a_list),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_of_two_checkpoints_the_one_before_is_used_if_the_newest_is_damaged(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    _save_two(tmp_path)
    damage(tmp_path / FOLDER / "step-00000002" / name)
    model, progress = _resume(tmp_path)
    assert progress == Progress(step=1)
    assert torch.equal(model.weight, torch.full((2, 2), 1.0))


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_no_whole_checkpoint_at_all_is_an_error_that_names_the_folder(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    _save_two(tmp_path)
    shutil.rmtree(tmp_path / FOLDER / "step-00000001")
    damage(tmp_path / FOLDER / "step-00000002" / name)
    with pytest.raises(CheckpointError, match=rf"{FOLDER}: none of 1 checkpoints is whole; remove the folder"):
        _resume(tmp_path)
    assert (tmp_path / FOLDER / "step-00000002").is_dir(), "what a person may still want to look at stays"


def test_a_damaged_newest_checkpoint_does_not_crowd_out_whole_ones(tmp_path: Path) -> None:
    _save_two(tmp_path)
    _empty(tmp_path / FOLDER / "step-00000002" / "state.json")
    checkpoints, model = Checkpoints(tmp_path, JOB), _model(0.0)
    assert checkpoints.resume(model, _optimizer(model)) == Progress(step=1)
    for step in (2, 3):
        checkpoints.save(_model(float(step)), _optimizer(model), Progress(step=step))
    _empty(tmp_path / FOLDER / "step-00000003" / "state.json")
    assert _resume(tmp_path)[1] == Progress(step=2)


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit_in_the_middle, _remove])
def test_a_checkpoint_whose_best_weights_are_damaged_is_not_used(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    checkpoints = Checkpoints(tmp_path, JOB)
    for step in (1, 2):
        model = _model(float(step))
        progress = Progress(step=step, best_wer=1 / step, best_step=step, best_sha256=checkpoints.save_best(model, step))
        checkpoints.save(model, _optimizer(model), progress)
    damage(tmp_path / FOLDER / "best-00000002.safetensors")
    _, progress = _resume(tmp_path)
    assert (progress.step, progress.best_step) == (1, 1)


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit_in_the_middle, _remove])
def test_damaged_best_weights_are_never_what_is_saved(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    checkpoints = Checkpoints(tmp_path, JOB)
    progress = Progress(step=1, best_wer=0.5, best_step=1, best_sha256=checkpoints.save_best(_model(1.0), 1))
    damage(tmp_path / FOLDER / "best-00000001.safetensors")
    with pytest.raises(CheckpointError, match="the best weights cannot be read"):
        checkpoints.load_best(_model(0.0), progress)


# What safetensors 0.8 says when a file system is full, recorded on a tmpfs of 1 MB: not an OSError.
FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("refusal", [FULL, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("written_before", [0, 1])
def test_a_full_disk_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception, written_before: int
) -> None:
    checkpoints, model = Checkpoints(tmp_path, JOB), _model(1.0)
    checkpoints.save(model, _optimizer(model), Progress(step=1))
    written: list[Path] = []

    def until_full(tensors: dict[str, torch.Tensor], file: Path) -> None:
        if len(written) == written_before:
            file.write_bytes(b"half")
            raise refusal
        written.append(file)
        save_file(tensors, file)

    monkeypatch.setattr(checkpoint, "save_file", until_full)
    with pytest.raises(DiskFullError, match="no space left"):
        checkpoints.save(_model(2.0), _optimizer(model), Progress(step=2))
    with pytest.raises(DiskFullError):
        checkpoints.save_best(_model(2.0), 2) if written_before == 0 else checkpoints.save(model, _optimizer(model), Progress(step=3))
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["step-00000001"]
    resumed, progress = _resume(tmp_path)
    assert progress == Progress(step=1)
    assert torch.equal(resumed.weight, model.weight)


def test_what_the_operating_system_refuses_safetensors_for_real_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    checkpoints, model = Checkpoints(tmp_path, JOB), _model(1.0)
    checkpoints.save(model, _optimizer(model), Progress(step=1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # bytes a file may have
    try:
        with pytest.raises(Exception, match="File too large"):
            checkpoints.save(_model(2.0), _optimizer(model), Progress(step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["step-00000001"]
    assert _resume(tmp_path)[1] == Progress(step=1)


def test_what_dead_processes_left_half_written_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    folder = tmp_path / FOLDER
    left, living = folder / f".step-00000007.tmp-{dead.stdout.strip()}-0123abcd", folder / f".step-00000008.tmp-{os.getpid()}-0123abcd"
    for temporary in (left, living):
        temporary.mkdir(parents=True)
        (temporary / "weights.safetensors").write_bytes(b"half")
    model, progress = _model(0.0), Checkpoints(tmp_path, JOB)
    assert progress.resume(model, _optimizer(model)) is None
    assert not left.exists()
    assert living.exists()


def _model(value: float) -> nn.Linear:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def _save_two(folder: Path) -> None:
    checkpoints = Checkpoints(folder, JOB)
    for step in (1, 2):
        model = _model(float(step))
        checkpoints.save(model, _optimizer(model), Progress(step=step))


def _resume(folder: Path) -> tuple[Any, Progress]:
    model = _model(0.0)
    progress = Checkpoints(folder, JOB).resume(model, _optimizer(model))
    assert progress is not None
    return model, progress
