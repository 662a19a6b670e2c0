"""Checkpoints that were cut short, changed, or could not be written: the one before is used, or a clear sentence said."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from avskrift.errors import CheckpointError, DiskFullError, TrainingError
from avskrift.training import checkpoint
from avskrift.training.checkpoint import Checkpoints, Progress, Restored

JOB = "a" * 64
FOLDER = JOB[:16]
TOO_LARGE = {"weights": {"w": torch.zeros(1 << 19)}}  # 2 MiB, for a disk of 1


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test may have sent the logs elsewhere."""
    monkeypatch.setattr(logging.getLogger("avskrift"), "propagate", True)


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
def test_of_two_checkpoints_the_one_before_is_used_and_said_so_if_the_newest_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    _save_two(tmp_path)
    damage(tmp_path / FOLDER / "step-00000002" / name)
    restored = _resume(tmp_path)
    assert restored.progress == Progress(step=1)
    assert torch.equal(restored.parts["weights"]["w"], torch.full((2, 2), 1.0))
    assert "checkpoint.unusable" in _warnings(caplog)
    assert _names(tmp_path) == ["step-00000001"], "step 2 is done anew"


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_no_whole_checkpoint_at_all_is_an_error_that_names_the_folder(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    _save_two(tmp_path)
    shutil.rmtree(tmp_path / FOLDER / "step-00000001")
    damage(tmp_path / FOLDER / "step-00000002" / name)
    with pytest.raises(CheckpointError, match=rf"{FOLDER}: none of 1 checkpoints is whole; remove the folder") as refused:
        _resume(tmp_path)
    assert refused.value.exit_code == 41
    assert _names(tmp_path) == ["step-00000002"], "what a person may still want to look at stays"


def test_a_damaged_newest_checkpoint_does_not_crowd_out_whole_ones(tmp_path: Path) -> None:
    _save_two(tmp_path)
    _empty(tmp_path / FOLDER / "step-00000002" / "state.json")
    checkpoints = Checkpoints(tmp_path, JOB)
    assert checkpoints.resume() is not None
    for step in (2, 3):
        _save(checkpoints, step)
    _empty(tmp_path / FOLDER / "step-00000003" / "state.json")
    assert _resume(tmp_path).progress == Progress(step=2)


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit_in_the_middle, _remove])
def test_a_checkpoint_whose_best_weights_are_damaged_is_not_used(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    checkpoints = Checkpoints(tmp_path, JOB)
    for step in (1, 2):
        sha256 = checkpoints.save_best(_parts(step)["weights"], step)
        checkpoints.save(_parts(step), Progress(step=step, best_wer=1 / step, best_step=step, best_sha256=sha256), wait=True)
    damage(tmp_path / FOLDER / "best-00000002.safetensors")
    progress = _resume(tmp_path).progress
    assert (progress.step, progress.best_step) == (1, 1)


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit_in_the_middle, _remove])
def test_damaged_best_weights_are_never_what_is_saved(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    checkpoints = Checkpoints(tmp_path, JOB)
    progress = Progress(step=1, best_wer=0.5, best_step=1, best_sha256=checkpoints.save_best(_parts(1)["weights"], 1))
    damage(tmp_path / FOLDER / "best-00000001.safetensors")
    with pytest.raises(CheckpointError, match="the best weights cannot be read"):
        checkpoints.best(progress)


# What safetensors 0.8 says when a file system is full, recorded on a tmpfs of 1 MB: not an OSError.
FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("refusal", [FULL, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("written_before", [0, 1])
def test_a_full_disk_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception, written_before: int
) -> None:
    checkpoints = Checkpoints(tmp_path, JOB)
    _save(checkpoints, 1)
    written: list[Path] = []

    def until_full(tensors: dict[str, torch.Tensor], file: Path) -> None:
        if len(written) == written_before:
            file.write_bytes(b"half")
            raise refusal
        written.append(file)
        save_file(tensors, file)

    monkeypatch.setattr(checkpoint, "save_file", until_full)
    with pytest.raises(DiskFullError, match="no space left"):
        _save(checkpoints, 2)
    with pytest.raises(DiskFullError):
        checkpoints.save_best(_parts(2)["weights"], 2) if written_before == 0 else _save(checkpoints, 3)
    monkeypatch.undo()
    assert _names(tmp_path) == ["step-00000001"]
    restored = _resume(tmp_path)
    assert restored.progress == Progress(step=1)
    assert torch.equal(restored.parts["weights"]["w"], torch.full((2, 2), 1.0))


def test_a_disk_that_is_full_for_real_leaves_the_last_checkpoint_whole(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk, JOB)
    _save(checkpoints, 1)
    checkpoints.save(TOO_LARGE, Progress(step=2))
    with pytest.raises(DiskFullError, match="no space left on the disk that holds"):
        checkpoints.wait()
    with pytest.raises(DiskFullError):
        checkpoints.save_best(TOO_LARGE["weights"], 2)
    assert _names(small_disk) == ["step-00000001"]
    assert _resume(small_disk).progress == Progress(step=1)


@pytest.mark.parametrize("call", ["save", "wait", "close", "resume"])
def test_what_the_writing_raised_is_raised_by_the_next_call_and_only_once(small_disk: Path, call: str) -> None:
    checkpoints = Checkpoints(small_disk, JOB)
    _save(checkpoints, 1)
    checkpoints.save(TOO_LARGE, Progress(step=2))
    with pytest.raises(DiskFullError):
        _save(checkpoints, 3) if call == "save" else getattr(checkpoints, call)()
    checkpoints.close()
    assert _resume(small_disk).progress == Progress(step=1)
    _save(checkpoints, 4)
    assert _resume(small_disk).progress == Progress(step=4)


def test_training_that_failed_says_why_even_if_its_last_checkpoint_failed_too(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    def train(failure: Exception | None) -> None:
        with Checkpoints(small_disk, JOB) as checkpoints:
            checkpoints.save(TOO_LARGE, Progress(step=2))
            if failure is not None:
                raise failure

    with pytest.raises(TrainingError, match="the loss became nan"):
        train(TrainingError("the loss became nan"))
    assert "checkpoint.failed" in _warnings(caplog)
    with pytest.raises(DiskFullError):
        train(None)


def test_a_finished_job_is_removed_even_if_its_last_checkpoint_failed(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk, JOB)
    checkpoints.save(TOO_LARGE, Progress(step=2))
    checkpoints.remove()
    assert list(small_disk.iterdir()) == []


def test_what_the_operating_system_refuses_safetensors_for_real_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, JOB)
    _save(checkpoints, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # bytes a file may have
    try:
        with pytest.raises(Exception, match="File too large"):
            _save(checkpoints, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _names(tmp_path) == ["step-00000001"]
    assert _resume(tmp_path).progress == Progress(step=1)


SAVING = """
import sys, time, torch
from avskrift.training.checkpoint import Checkpoints, Progress

checkpoints = Checkpoints(sys.argv[1], sys.argv[2])
checkpoints.save({"weights": {"w": torch.ones(2, 2)}, "optimizer": {"0.exp_avg": torch.ones(2, 2)}}, Progress(step=1), wait=True)
checkpoints.save({"weights": {"w": torch.zeros(1 << 26)}}, Progress(step=2))
time.sleep(600)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_the_one_before_and_nothing_half_written(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    process = subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path), JOB])
    try:
        while not list(folder.glob(".step-00000002.tmp-*/weights.safetensors")):
            assert process.poll() is None
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    assert list(folder.glob(".step-00000002.tmp-*")), "it was killed too late to tell anything"
    assert _resume(tmp_path).progress == Progress(step=1)
    assert _names(tmp_path) == ["step-00000001"]


def test_what_dead_processes_left_half_written_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    folder = tmp_path / FOLDER
    left, living = folder / f".step-00000007.tmp-{dead.stdout.strip()}-0123abcd", folder / f".step-00000008.tmp-{os.getpid()}-0123abcd"
    for temporary in (left, living):
        temporary.mkdir(parents=True)
        (temporary / "weights.safetensors").write_bytes(b"half")
    assert Checkpoints(tmp_path, JOB).resume() is None
    assert not left.exists()
    assert living.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _parts(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"weights": {"w": torch.full((2, 2), float(value))}, "optimizer": {"0.exp_avg": torch.full((2, 2), float(value))}}


def _save(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(_parts(step), Progress(step=step), wait=True)


def _save_two(folder: Path) -> None:
    for step in (1, 2):
        _save(Checkpoints(folder, JOB), step)


def _resume(folder: Path) -> Restored:
    restored = Checkpoints(folder, JOB).resume()
    assert restored is not None
    return restored


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER).iterdir())


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
