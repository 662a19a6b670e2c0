"""Checkpoints: safetensors and JSON, whole or absent, the newest two kept.

A checkpoint folder is ``step-00000042/`` with ``weights.safetensors``, ``optimizer.safetensors`` and ``state.json``
(step, best validation WER, sha256 of the other files, digest of what is trained); ``best/`` holds the weights with the
lowest validation WER so far.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from avskrift import logs
from avskrift.errors import CheckpointError
from avskrift.storage.atomic import atomic_folder, sweep
from avskrift.storage.manifest import sha256_file

_WEIGHTS, _OPTIMIZER, _STATE, _BEST = "weights.safetensors", "optimizer.safetensors", "state.json", "best"
_KEPT = 2
_log = logs.Log("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where training stands: optimizer steps done, and the best validation WER with the step it was measured at."""

    step: int = 0
    best_wer: float | None = None
    best_step: int = 0
    curve: tuple[tuple[int, str, float], ...] = ()  # (step, name, value), all so far


class Checkpoints:
    """The checkpoints of one training job in one folder; ``job`` is a digest of all that decides its outcome."""

    def __init__(self, folder: Path, job: str) -> None:
        self._folder = folder
        self._job = job
        sweep(folder)

    def save(self, model: torch.nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        """Write one checkpoint and drop all but the newest two.

        Raises:
            DiskFullError: the previous checkpoints are intact.
        """
        with atomic_folder(self._folder / f"step-{progress.step:08d}") as folder:
            save_file(_own_weights(model), folder / _WEIGHTS)
            save_file(_optimizer_tensors(optimizer), folder / _OPTIMIZER)
            files = {name: sha256_file(folder / name) for name in (_WEIGHTS, _OPTIMIZER)}
            state = {"job": self._job, "progress": asdict(progress), "files": files, "rng": torch.get_rng_state().tolist()}
            (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")
        for old in self._newest_first()[_KEPT:]:
            shutil.rmtree(old)
        _log.info("checkpoint.saved", step=progress.step)

    def save_best(self, model: torch.nn.Module) -> None:
        """Keep the model's weights as the best so far."""
        with atomic_folder(self._folder / _BEST) as folder:
            save_file(_own_weights(model), folder / _WEIGHTS)

    def load_best(self, model: torch.nn.Module) -> None:
        """Put the best weights into ``model``.

        Raises:
            CheckpointError: they cannot be read.
        """
        try:
            _load_weights(model, self._folder / _BEST / _WEIGHTS)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"{self._folder / _BEST}: the best weights cannot be read ({error}); remove {self._folder} and train again"
            ) from error

    def resume(self, model: torch.nn.Module, optimizer: Optimizer) -> Progress | None:
        """Load the newest checkpoint that is whole; None where there is none yet.

        Raises:
            CheckpointError: there are checkpoints, but none that is whole.
        """
        found = self._newest_first()
        for folder in found:
            try:
                progress = self._load(folder, model, optimizer)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
                _log.warning("checkpoint.unusable", checkpoint=folder.name, reason=type(error).__name__)
                continue
            _log.info("checkpoint.resumed", step=progress.step)
            return progress
        if found:
            raise CheckpointError(f"{self._folder}: none of {len(found)} checkpoints is whole; remove the folder to train from the start")
        return None

    def remove(self) -> None:
        """Remove all: the job is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"), reverse=True)

    def _load(self, folder: Path, model: torch.nn.Module, optimizer: Optimizer) -> Progress:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if state["job"] != self._job:
            raise ValueError("of another job")
        for name, sha256 in state["files"].items():
            if sha256_file(folder / name) != sha256:
                raise ValueError(f"{name} was changed")
        raw = state["progress"]
        progress = Progress(**{**raw, "curve": tuple((step, name, value) for step, name, value in raw["curve"])})
        _load_weights(model, folder / _WEIGHTS)
        _restore_optimizer(optimizer, load_file(folder / _OPTIMIZER))
        torch.set_rng_state(torch.tensor(state["rng"], dtype=torch.uint8))
        return progress


def _own_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Each tensor once: safetensors refuses the tied output layer, which is the embeddings again."""
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


def _load_weights(model: torch.nn.Module, file: Path) -> None:
    stored = load_file(file)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(stored[name])


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value.contiguous() for index, entry in state.items() for name, value in entry.items()}


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
