"""What has happened so far in a run: all that a resumed run must know beside tensors."""

from __future__ import annotations

from dataclasses import replace

from avskrift.training.checkpoint import Progress
from avskrift.training.validation import Validation


class Story:
    """Steps done, their figures as they become known, and the best validation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._points = list(progress.curve)
        self._validated = max((step for step, name, _ in progress.curve if name == "validation_wer"), default=0)
        self._rates: dict[int, float] = {}

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._progress.step

    def did(self, step: int, rate: float) -> None:
        """Step ``step`` (from 1) was handed to the device."""
        self._progress = replace(self._progress, step=step)
        self._rates[step] = rate

    def loss(self, step: int, value: float) -> float:
        """The loss of ``step`` is known; the learning rate that it had."""
        rate = self._rates.pop(step)
        self._points += [(step, "train_loss", value), (step, "learning_rate", rate)]
        return rate

    def validated(self, step: int) -> bool:
        return step == self._validated

    def validate(self, measured: Validation) -> bool:
        """Note a validation of the weights as they are; whether they are the best so far."""
        step, best = self.step, self._progress.best_wer is None or measured.wer < self._progress.best_wer
        self._points.append((step, "validation_wer", measured.wer))
        self._validated = step
        self._progress = replace(
            self._progress,
            examples=(*self._progress.examples, *((step, *example) for example in measured.examples)),
            worse_validations=0 if best else self._progress.worse_validations + 1,
        )
        if best:
            self._progress = replace(self._progress, best_wer=measured.wer, best_step=step)
        return best

    def best_is(self, sha256: str) -> None:
        """The file with the best weights is written."""
        self._progress = replace(self._progress, best_sha256=sha256)

    def progress(self) -> Progress:
        """All of it; every loss must be known."""
        return replace(self._progress, curve=tuple(self._points))
