"""Checkpoints: safetensors and JSON, whole or absent, the newest two kept.

A checkpoint folder is ``step-00000042/`` with ``weights.safetensors``, ``optimizer.safetensors`` and ``state.json``
(progress, random state, digest of what is trained, sha256 of the other files and of itself); ``best-00000040.safetensors``
holds the weights with the lowest validation WER up to then. A checkpoint counts as whole only with the best weights that it names.
"""

from __future__ import annotations

import hashlib
import json
import re
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
from avskrift.storage.atomic import atomic_file, atomic_folder, sweep
from avskrift.storage.manifest import sha256_file

_WEIGHTS, _OPTIMIZER, _STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
_KEPT = 2
_STEP = re.compile(r"^(?:step|best)-(?P<step>\d{8})")
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, RuntimeError)
_log = logs.Log("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where training stands: optimizer steps done, and the best validation WER with the step it was measured at.

    ``best_sha256`` is that of the file with the weights of ``best_step``.
    """

    step: int = 0
    best_wer: float | None = None
    best_step: int = 0
    best_sha256: str = ""
    curve: tuple[tuple[int, str, float], ...] = ()  # (step, name, value), all so far


class Checkpoints:
    """The checkpoints of one training job in a folder of its own; ``job`` is a digest of all that decides its outcome."""

    def __init__(self, folder: Path, job: str) -> None:
        self._folder = folder / job[:16]
        self._job = job
        sweep(self._folder)

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
            (folder / _STATE).write_text(json.dumps({**state, "sha256": _digest(state)}), encoding="utf-8")
        self._drop_old()
        _log.info("checkpoint.saved", step=progress.step)

    def save_best(self, model: torch.nn.Module, step: int) -> str:
        """Keep the weights after ``step`` as the best so far; the sha256 of their file.

        Raises:
            DiskFullError: what was the best is intact.
        """
        with atomic_file(self._best(step)) as file:
            save_file(_own_weights(model), file)
            return sha256_file(file)

    def load_best(self, model: torch.nn.Module, progress: Progress) -> None:
        """Put the best weights into ``model``.

        Raises:
            CheckpointError: they are not those that were saved.
        """
        try:
            self._check_best(progress)
            _load_weights(model, self._best(progress.best_step))
        except _BROKEN as error:
            raise CheckpointError(
                f"{self._best(progress.best_step)}: the best weights cannot be read ({error}); run the same command again"
            ) from error

    def resume(self, model: torch.nn.Module, optimizer: Optimizer) -> Progress | None:
        """Load the newest checkpoint that is whole; None where there is none yet. What is newer than it is removed.

        Raises:
            CheckpointError: there are checkpoints, but none that is whole.
        """
        found = self._newest_first("step-*")
        for folder in found:
            try:
                progress = self._load(folder, model, optimizer)
            except _BROKEN as error:
                _log.warning("checkpoint.unusable", checkpoint=folder.name, reason=type(error).__name__)
                continue
            self._drop_after(progress.step)
            _log.info("checkpoint.resumed", step=progress.step)
            return progress
        if found:
            raise CheckpointError(f"{self._folder}: none of {len(found)} checkpoints is whole; remove the folder to train from the start")
        self._drop_after(0)
        return None

    def remove(self) -> None:
        """Remove all: the job is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _best(self, step: int) -> Path:
        return self._folder / f"best-{step:08d}.safetensors"

    def _newest_first(self, pattern: str) -> list[Path]:
        return sorted((path for path in self._folder.glob(pattern) if _STEP.match(path.name)), reverse=True)

    def _drop_old(self) -> None:
        """Keep the newest checkpoints and, for each, the newest best weights that are not newer than it: those it names."""
        checkpoints, best = self._newest_first("step-*"), self._newest_first("best-*")
        kept, old = checkpoints[:_KEPT], checkpoints[_KEPT:]
        named = {next((file for file in best if _step(file) <= _step(checkpoint)), None) for checkpoint in kept}
        for path in [*old, *(file for file in best if file not in named)]:
            _remove(path)

    def _drop_after(self, step: int) -> None:
        """Steps that are done anew must not meet what an earlier attempt left of them."""
        for path in [*self._newest_first("step-*"), *self._newest_first("best-*")]:
            if _step(path) > step:
                _remove(path)

    def _load(self, folder: Path, model: torch.nn.Module, optimizer: Optimizer) -> Progress:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if state.pop("sha256") != _digest(state):
            raise ValueError(f"{_STATE} was changed")
        if state["job"] != self._job:
            raise ValueError("of another job")
        for name, sha256 in state["files"].items():
            if sha256_file(folder / name) != sha256:
                raise ValueError(f"{name} was changed")
        raw = state["progress"]
        progress = Progress(**{**raw, "curve": tuple((step, name, value) for step, name, value in raw["curve"])})
        if progress.best_wer is not None:
            self._check_best(progress)
        _load_weights(model, folder / _WEIGHTS)
        _restore_optimizer(optimizer, load_file(folder / _OPTIMIZER))
        torch.set_rng_state(torch.tensor(state["rng"], dtype=torch.uint8))
        return progress

    def _check_best(self, progress: Progress) -> None:
        file = self._best(progress.best_step)
        if sha256_file(file) != progress.best_sha256:
            raise ValueError(f"{file.name} was changed")


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _step(path: Path) -> int:
    return int(path.name.split("-")[1][:8])


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


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
