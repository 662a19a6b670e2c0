"""pick_trial: of a sweep's trials, the one that makes the fewest errors on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avskrift.errors import EvaluationError
from avskrift.evaluation.clip_results import read_clip_results
from avskrift.evaluation.ranking import Contender, Place, rank
from avskrift.evaluation.report_markdown import escaped
from avskrift.evaluation.result_file import read_evaluation
from avskrift.logs import Log
from avskrift.pages import percent
from avskrift.storage.atomic import atomic_file

_SPLIT = "validation"  # the test split is the gate's alone: whoever picks on it has seen it
_log = Log("pick_trial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A trial's name and base model, its evaluation folder, and where what export and fine_tune gave lies."""

    name: str
    base_model: str
    evaluation: str | Path
    package_uri: str
    package_sha256: str
    training_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The trials, in any order."""

    trials: Sequence[Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The trial that was picked, and where every one came."""

    picked: Measured
    places: tuple[Place, ...]

    def write_summary(self, target: str | Path) -> None:
        """Write the ranking as Markdown to ``target``, a file.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        with atomic_file(Path(target)) as temporary:
            temporary.write_text(_markdown(self.places), encoding="utf-8")


def run(config: Config) -> Result:
    """Rank the trials.

    Raises:
        EvaluationError: no trial, an evaluation that cannot be read, is of another package or of another split, or trials that were
            measured on different clips.
        IntegrityError: an evaluation was changed after it was written.
    """
    places = rank([_contender(one) for one in config.trials])
    by_name = {one.name: one for one in config.trials}
    picked = by_name[places[0].contender.name]
    _log.info("trial.picked", trial=picked.name, trials=len(places), could_be_best=sum(place.could_be_best for place in places))
    return Result(picked=picked, places=tuple(places))


def _contender(trial: Measured) -> Contender:
    folder = Path(trial.evaluation)
    evaluation = read_evaluation(folder)
    if evaluation.split != _SPLIT:
        raise EvaluationError(f"{trial.name} was measured on {evaluation.split}; a sweep picks on {_SPLIT}")
    if evaluation.candidate.package_sha256 != trial.package_sha256:
        raise EvaluationError(
            f"{trial.name}: the evaluation is of the package {evaluation.candidate.package_sha256}, not of {trial.package_sha256}"
        )
    return Contender(name=trial.name, evaluation=evaluation, clips=read_clip_results(folder, evaluation.clips_sha256))


def _markdown(places: Sequence[Place]) -> str:
    best = places[0].contender
    confidence = percent(best.evaluation.confidence)
    lines = [
        f"# {escaped(best.name)}",
        "",
        f"The lowest word error rate of {len(places)} trials on {best.evaluation.clips} clips of the {_SPLIT} split, with "
        f"{confidence} intervals over {best.evaluation.resampled}. What lies behind it by an interval that holds 0 may be as good.",
        "",
        "| | trial | WER | interval | behind the best | interval | CER |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_row(number, place) for number, place in enumerate(places, start=1))]) + "\n"


def _row(number: int, place: Place) -> str:
    score, behind = place.contender.evaluation.candidate, place.behind
    distance = f"{percent(behind.value)} | {percent(behind.low)} to {percent(behind.high)}" if behind else " | "
    return (
        f"| {number} | {escaped(place.contender.name)} | {percent(score.wer.value)} | "
        f"{percent(score.wer.low)} to {percent(score.wer.high)} | {distance} | {percent(score.cer.value)} |"
    )
