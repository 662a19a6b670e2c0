"""Checkpoints: safetensors and JSON, whole or absent, written beside the training, in a folder or in S3.

A checkpoint folder is ``step-00000042/`` with a safetensors file for each part of what is trained (weights, optimizer, ...)
and ``state.json`` (progress, settings, digest of the job, sha256 of the other files and of itself);
``best-00000040.safetensors`` holds the weights with the lowest validation WER up to then. A checkpoint counts as whole only
with the best weights that it names.

In S3 the same files lie under the same names, ``state.json`` last: what has none is a copy that was cut short. The folder
that is worked in is then a cache, and the newest of both places is what is resumed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from avskrift import logs
from avskrift.errors import AvskriftError, CheckpointError, StorageError, UsageError
from avskrift.storage.atomic import atomic_file, atomic_folder, sweep
from avskrift.storage.door import local_path
from avskrift.storage.manifest import sha256_file
from avskrift.storage.objects import ObjectStore
from avskrift.storage.paths import cache
from avskrift.training.checkpoint_names import NAME, STATE, SUFFIX, best_name, named_best, step_of
from avskrift.training.mirror import Mirror

Tensors = Mapping[str, torch.Tensor]

_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, RuntimeError)
_T = TypeVar("_T")
_log = logs.Log("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where training stands: optimizer steps done, and the best validation WER with the step it was measured at.

    ``best_sha256`` is that of the file with the weights of ``best_step``; ``worse_validations`` counts those since then.
    """

    step: int = 0
    best_wer: float | None = None
    best_step: int = 0
    best_sha256: str = ""
    curve: tuple[tuple[int, str, float], ...] = ()  # (step, name, value), all so far
    examples: tuple[tuple[int, str, str, str], ...] = ()  # (step, clip_id, said, heard) of a few validation clips, all so far
    worse_validations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a checkpoint gives back; the tensors are the caller's own, on the CPU."""

    progress: Progress
    parts: dict[str, dict[str, torch.Tensor]]
    settings: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one training job; ``job`` is a digest of all that decides its outcome.

    One thread of a training has one of these, and closes it. Only one process may write the checkpoints of a job.
    """

    def __init__(self, place: str | Path, job: str, *, keep: int = 2) -> None:
        """``place`` is a folder or ``s3://BUCKET/PREFIX``; the newest ``keep`` checkpoints stay. Nothing is connected to yet.

        Raises:
            UsageError: a place of another kind, or nothing to keep.
            StorageError: the S3 endpoint is no URL.
        """
        if keep < 1:
            raise UsageError(f"{keep} checkpoints would be kept, so none could be resumed; keep 1 or more")
        self._job, self._keep = job, keep
        self._mirror: Mirror | None = None
        self._folder = _folder(place) / job[:16]
        if str(place).startswith("s3://"):
            self._mirror = Mirror(ObjectStore(f"{str(place).rstrip('/')}/{job[:16]}"), self._folder)
        self._buffers: dict[tuple[str, str], torch.Tensor] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        sweep(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """As ``close``; where the block itself failed, that is what is raised, and what writing raised is logged."""
        try:
            self.close()
        except AvskriftError as failed:
            if error is None:
                raise
            _log.error("checkpoint.failed", reason=type(failed).__name__)

    def save(
        self, parts: Mapping[str, Tensors], progress: Progress, settings: Mapping[str, Any] | None = None, *, wait: bool = False
    ) -> None:
        """Take a copy of ``parts`` and write it as a checkpoint beside the training; drop all but the newest.

        The tensors may be changed as soon as this returns. ``settings`` is JSON. If the previous checkpoint is still being
        written, this waits for it. A store that cannot be reached is only logged: the checkpoint is then in the cache, and
        the next save sends it. ``wait`` returns when all of it is done.

        Raises:
            DiskFullError, StorageError: the previous checkpoint (with ``wait``, or this one) could not be written; those
                before it are intact.
        """
        if self._pending is not None and not self._pending.done():
            _log.info("checkpoint.waiting", step=progress.step)
        self.wait()
        # Through JSON and back, so that the digest is of what a reader will see; here, where a value that is none is the caller's.
        state = json.loads(json.dumps({"job": self._job, "progress": asdict(progress), "settings": dict(settings or {})}))
        copies = self._copies(parts)
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = self._thread.submit(self._write, f"step-{progress.step:08d}", copies, state)
        if wait:
            self.wait()

    def save_best(self, weights: Tensors, step: int) -> str:
        """Keep ``weights`` as the best so far, whole when this returns; the sha256 of their file.

        A store gets them with the first checkpoint that names them.

        Raises:
            DiskFullError, StorageError: what was the best is intact.
        """
        with atomic_file(self._folder / best_name(step)) as file:
            save_file({name: _buffer(tensor).copy_(tensor.detach()) for name, tensor in weights.items()}, file)
            return sha256_file(file)

    def best(self, progress: Progress) -> dict[str, torch.Tensor]:
        """The best weights, on the CPU.

        Raises:
            CheckpointError: they are not those that were saved.
            StorageError: they are not in the cache, and the store cannot be reached.
        """
        file = self._folder / best_name(progress.best_step)
        try:
            self._here_or_stored(file.name, lambda: _check(file, progress.best_sha256))
            return _load(file)
        except _BROKEN as error:
            raise CheckpointError(f"{file}: the best weights cannot be read ({error}); run the same command again") from error

    def resume(self) -> Restored | None:
        """The newest checkpoint that is whole; None where there is none yet. What is newer than it is removed.

        Raises:
            CheckpointError: there are checkpoints, but none that is whole.
            StorageError: the store cannot be reached.
        """
        self.wait()
        found = sorted({*self._names("step"), *(self._mirror.checkpoints() if self._mirror else ())}, reverse=True)
        for name in found:
            try:
                restored = self._restored(name)
            except _BROKEN as error:
                _log.warning("checkpoint.unusable", checkpoint=name, reason=type(error).__name__)
                continue
            self._drop_after(restored.progress.step)
            _log.info("checkpoint.resumed", step=restored.progress.step)
            return restored
        if found:
            raise self.refused(f"none of {len(found)} checkpoints is whole")
        self._drop_after(-1)
        return None

    def refused(self, why: str) -> CheckpointError:
        """The error of a job that cannot go on from these checkpoints: where they are, ``why``, and what to remove."""
        where, what = (self._folder, "the folder") if self._mirror is None else (f"{self._mirror.uri} and {self._folder}", "both")
        return CheckpointError(f"{where}: {why}; remove {what} to train from the start")

    def wait(self) -> None:
        """Return when what is being written is whole, and sent where there is a store.

        Raises:
            DiskFullError, StorageError: it could not be written; said once.
        """
        if self._pending is not None:
            wait_for([self._pending])  # a signal that interrupts this leaves it pending: its buffers are in use
            done, self._pending = self._pending, None
            done.result()

    def close(self) -> None:
        """``wait``, and stop the thread. What is saved later starts another.

        Raises:
            DiskFullError, StorageError: as ``wait``.
        """
        try:
            self.wait()
        finally:
            thread, self._thread = self._thread, None
            if thread is not None:
                thread.shutdown()
            self._buffers.clear()

    def remove(self) -> None:
        """Remove all, here and in the store: the job is done. What cannot be removed is only logged."""
        self._log_failure("checkpoint.failed", self.close)
        if self._mirror is not None:
            self._log_failure("checkpoint.not_removed", self._mirror.remove)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _copies(self, parts: Mapping[str, Tensors]) -> dict[str, dict[str, torch.Tensor]]:
        """Copies in CPU memory that the next save uses again; pinned for a GPU, so that all are copied in one go."""
        buffers: dict[tuple[str, str], torch.Tensor] = {}
        devices = set()
        for part, tensors in parts.items():
            for name, tensor in tensors.items():
                buffer = self._buffers.get((part, name))
                if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
                    buffer = _buffer(tensor, pinned=tensor.is_cuda)
                buffers[part, name] = buffer.copy_(tensor.detach(), non_blocking=tensor.is_cuda)
                if tensor.is_cuda:
                    devices.add(tensor.device)
        for device in devices:
            torch.cuda.synchronize(device)
        self._buffers = buffers
        return {part: {name: buffers[part, name] for name in tensors} for part, tensors in parts.items()}

    def _write(self, name: str, parts: Mapping[str, Tensors], state: dict[str, Any]) -> None:
        """What the thread does for one checkpoint."""
        with atomic_folder(self._folder / name) as folder:
            for part, tensors in parts.items():
                save_file(dict(tensors), folder / f"{part}{SUFFIX}")
            state["files"] = {f"{part}{SUFFIX}": sha256_file(folder / f"{part}{SUFFIX}") for part in parts}
            (folder / STATE).write_text(json.dumps({**state, "sha256": _digest(state)}), encoding="utf-8")
        self._drop_old()
        _log.info("checkpoint.saved", step=state["progress"]["step"])
        if self._mirror is not None:
            mirror, kept = self._mirror, self._names("step")
            self._log_failure("checkpoint.not_sent", lambda: mirror.send(name, kept))

    def _restored(self, name: str) -> Restored:
        folder = self._folder / name
        state = self._here_or_stored(name, lambda: self._whole_state(folder))
        raw = state["progress"]
        rows = {key: tuple(tuple(row) for row in raw[key]) for key in ("curve", "examples")}
        progress = Progress(**{**raw, **rows})
        if progress.best_wer is not None:
            best = self._folder / best_name(progress.best_step)
            self._here_or_stored(best.name, lambda: _check(best, progress.best_sha256))
        parts = {file.removesuffix(SUFFIX): _load(folder / file) for file in state["files"]}
        return Restored(progress=progress, parts=parts, settings=state["settings"])

    def _whole_state(self, folder: Path) -> dict[str, Any]:
        """The state of a checkpoint all of whose own files are those that were written."""
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state.pop("sha256") != _digest(state):
            raise ValueError(f"{STATE} was changed")
        if state["job"] != self._job:
            raise ValueError("of another job")
        for name, sha256 in state["files"].items():
            _check(folder / name, sha256)
        return state

    def _here_or_stored(self, name: str, read: Callable[[], _T]) -> _T:
        """What ``read`` makes of a checkpoint or best weights: as they are here, or else as they are in the store."""
        try:
            return read()
        except _BROKEN:
            if self._mirror is None or not self._mirror.fetch(name):
                raise
            _log.info("checkpoint.fetched", checkpoint=name)
            return read()

    def _names(self, kind: str) -> list[str]:
        """Newest first."""
        return sorted((path.name for path in self._folder.glob(f"{kind}-*") if NAME.match(path.name)), reverse=True)

    def _drop_old(self) -> None:
        """Keep the newest checkpoints, the best weights that they name, and those that the next checkpoint may name."""
        checkpoints = self._names("step")
        kept, old = checkpoints[: self._keep], checkpoints[self._keep :]
        named = {named_best(self._folder / name)[0] for name in kept}
        best = (name for name in self._names("best") if name not in named and step_of(name) < step_of(kept[0]))
        for name in [*old, *best]:
            _remove(self._folder / name)

    def _drop_after(self, step: int) -> None:
        """Steps that are done anew must not meet what an earlier attempt left of them."""
        for name in [*self._names("step"), *self._names("best")]:
            if step_of(name) > step:
                _remove(self._folder / name)
        if self._mirror is not None:
            self._mirror.drop_after(step)

    def _log_failure(self, event: str, action: Callable[[], None]) -> None:
        try:
            action()
        except StorageError as error:
            _log.warning(event, reason=str(error))


def optimizer_tensors(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state, by the index of the parameter and the name of the moment; the tensors are its own."""
    state: dict[int, dict[str, torch.Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: Optimizer, tensors: Tensors) -> None:
    """Put back what ``optimizer_tensors`` gave, on each parameter's device; the groups' settings stay as they are."""
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})


def load_weights(model: torch.nn.Module, tensors: Tensors) -> None:
    """Copy ``tensors`` into the parameters of these names; others stay as they are.

    Raises:
        KeyError: the model has no parameter of such a name; nothing was copied.
    """
    parameters = dict(model.named_parameters())
    unknown = sorted(tensors.keys() - parameters.keys())
    if unknown:
        raise KeyError(f"the model has no parameter {unknown[0]}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def _folder(place: str | Path) -> Path:
    """Where checkpoints are worked on: the place itself, or a cache of it."""
    if str(place).startswith("s3://"):
        return cache() / "checkpoints" / hashlib.sha256(str(place).rstrip("/").encode()).hexdigest()[:16]
    folder = place if isinstance(place, Path) else local_path(place)
    if folder is None:
        raise UsageError(f"{place}: checkpoints cannot be kept there; name a folder or s3://BUCKET/PREFIX")
    return folder


def _buffer(tensor: torch.Tensor, *, pinned: bool = False) -> torch.Tensor:
    """Room for ``tensor`` in CPU memory: of its own, and contiguous, which is what safetensors takes."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)


def _check(file: Path, sha256: str) -> None:
    if sha256_file(file) != sha256:
        raise ValueError(f"{file.name} was changed")


def _load(file: Path) -> dict[str, torch.Tensor]:
    """Copies: what safetensors gives are pages of the file, which is to be removed while they are in use."""
    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
