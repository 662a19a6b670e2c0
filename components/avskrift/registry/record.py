"""What is recorded of a pipeline run, whether its package was registered or rejected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from avskrift.errors import UsageError
from avskrift.evaluation.decision import Decision
from avskrift.evaluation.decision_file import DECISION_FILE, read_decision
from avskrift.evaluation.report_figures import pictures
from avskrift.evaluation.report_markdown import SUMMARY_FILE
from avskrift.evaluation.report_wording import Bounded, sound_or_why_not
from avskrift.evaluation.result import CARD_FILE, REPORT_FILE, RESULT_FILE, Evaluation
from avskrift.evaluation.result_figures import figures as named_figures
from avskrift.evaluation.result_file import read_evaluation
from avskrift.registry import tags
from avskrift.registry.dataset import DatasetRecord, figures_of, inputs_of
from avskrift.registry.live import parse_point
from avskrift.registry.protocol import CurvePoint, Registry

TRAINING_FILE = "training.json"
CURVES_FILE = "curves.jsonl"
TRAINING_FOLDER = "training"  # among a run's artifacts, where fine_tune's page and what it shows are kept
_TRAINING_FILES = ("report.html", CURVES_FILE, "examples.jsonl")  # an older training folder lacks some
FIGURES_FOLDER = "figures"  # among a run's artifacts
SLICES_FILE = "slices.json"
DATASET_FOLDER = "dataset"  # among a run's artifacts, where the dataset's card is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a run left behind: figures, the gate's word on them, and how the model was trained.

    ``training`` is fine_tune's report folder, or None where a package was not trained here. ``dataset`` is None where nothing
    is said of it.
    """

    folder: Path  # evaluate's output
    judged: Path  # the gate's output
    evaluation: Evaluation
    decision: Decision
    parameters: dict[str, Any]
    training: Path | None
    trained_on: str = ""  # the fingerprint of the dataset, where fine_tune says it
    dataset: DatasetRecord | None = None


def read_evidence(
    *, evaluation: str | Path, decision: str | Path, training: str | Path | None, dataset: DatasetRecord | None = None
) -> Evidence:
    """Read the output folders of evaluate, of the gate and of fine_tune, and put what the dataset's card says beside them.

    Raises:
        EvaluationError: no evaluation or no decision, or one that breaks its contract.
        IntegrityError: one of them was changed after it was written.
        UsageError: a training folder without its ``training.json``, or with one that cannot be read; a dataset that is not the
            one that was trained and measured on.
    """
    measured, judged, trained = Path(evaluation), Path(decision), Path(training) if training else None
    story = read_training(trained) if trained else {"parameters": {}}
    evidence = Evidence(
        folder=measured,
        judged=judged,
        evaluation=read_evaluation(measured),
        decision=read_decision(judged),
        parameters=story["parameters"],
        training=trained,
        trained_on=str(story.get("dataset_fingerprint", "")),
        dataset=dataset,
    )
    _refuse_other_dataset(evidence)
    return evidence


def record(
    registry: Registry,
    run_id: str,
    evidence: Evidence,
    *,
    package_uri: str,
    code_version: str = "",
    origin: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Write parameters, figures, curves, dataset, reports and tags into the run; return the tags, ``origin`` among them.

    Raises:
        RegistryError: MLflow did not answer or refused.
        UsageError: a line of the curves that cannot be read.
    """
    if evidence.training:
        record_training(registry, run_id, evidence.training, evidence.parameters)
    registry.log_metrics(run_id, {**(figures_of(evidence.dataset) if evidence.dataset else {}), **figures(evidence.evaluation)})
    _log_evaluation(registry, run_id, evidence)
    if evidence.dataset:
        registry.log_inputs(run_id, inputs_of(evidence.dataset))
        for file in evidence.dataset.files:
            registry.log_file(run_id, file, DATASET_FOLDER)
    labels = {**_labels(evidence, package_uri, code_version), **(origin or {})}
    registry.set_tags(run_id, labels)
    return labels


def record_training(registry: Registry, run_id: str, training: Path, parameters: Mapping[str, Any]) -> None:
    """Write what fine_tune was asked to do, its curves by training step, and its pages into the run.

    Raises:
        RegistryError: MLflow did not answer or refused.
        UsageError: a line of the curves that cannot be read.
    """
    registry.log_params(run_id, parameters)
    registry.log_curves(run_id, _curves(training / CURVES_FILE))
    _log_existing(registry, run_id, training, _TRAINING_FILES, TRAINING_FOLDER)


def _log_evaluation(registry: Registry, run_id: str, evidence: Evidence) -> None:
    """The result, the report with the decision where the gate wrote one, and for MLflow's page the figures and slices."""
    evaluation = evidence.evaluation
    _log_existing(registry, run_id, evidence.folder, (RESULT_FILE, CARD_FILE))
    _log_existing(registry, run_id, evidence.judged, (DECISION_FILE, REPORT_FILE, SUMMARY_FILE))
    for name, picture in sound_or_why_not(evaluation, lambda: pictures(evaluation), lambda _: {}).items():
        registry.log_text(run_id, picture, f"{FIGURES_FOLDER}/{name}")
    slices = sound_or_why_not(evaluation, lambda: slice_table(evaluation), lambda _: {})
    if slices:
        registry.log_table(run_id, slices, SLICES_FILE)


def slice_table(evaluation: Evaluation) -> dict[str, list[object]]:
    """The slices by columns; none where there are none."""
    rows = [
        {
            "slice": one.kind,
            "name": one.name,
            "clips": one.clips,
            "speakers": one.speakers,
            "words": one.reference_words,
            **_bounded("wer", one.candidate),
            **_bounded("baseline_wer", one.baseline),
            **_bounded("wer_difference", one.difference),
            "wins": round(one.difference.wins, 6),
        }
        for one in evaluation.slices
    ]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _bounded(name: str, figure: Bounded) -> dict[str, float]:
    ends = {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return {end: round(value, 6) for end, value in ends.items()}  # people read them


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The evaluation's figures under the names that they have in MLflow; none where one of them cannot be right."""
    return sound_or_why_not(evaluation, lambda: named_figures(evaluation), lambda _: {})


def _log_existing(registry: Registry, run_id: str, folder: Path, names: Iterable[str], below: str = "") -> None:
    for name in names:
        if (folder / name).is_file():
            registry.log_file(run_id, folder / name, below)


def _labels(evidence: Evidence, package_uri: str, code_version: str) -> dict[str, str]:
    evaluation, dataset = evidence.evaluation, evidence.dataset
    origin = {tags.DATASET_SOURCE: dataset.source, tags.DATASET_LICENCE: dataset.licence} if dataset else {}
    return {
        tags.DATASET_FINGERPRINT: evaluation.dataset_fingerprint,
        tags.PACKAGE_SHA256: evaluation.candidate.package_sha256,
        tags.PACKAGE_URI: package_uri,
        tags.BASELINE_URI: evaluation.baseline.uri,
        tags.LANGUAGE: evaluation.language,
        tags.NORMALISER: evaluation.normaliser,
        tags.ENGINE: evaluation.engine,
        tags.CODE_VERSION: code_version or installed_version("avskrift"),
        tags.GATE: evidence.decision.verdict,
        tags.GATE_REASONS: "\n".join(evidence.decision.reasons),
        **_override(evidence.decision),
        **origin,
    }


def _override(decision: Decision) -> dict[str, str]:
    if decision.override is None or not decision.overridden:
        return {}
    return {tags.GATE_OVERRIDE_BY: decision.override.by, tags.GATE_OVERRIDE_REASON: decision.override.reason}


def _refuse_other_dataset(evidence: Evidence) -> None:
    """A record that names data which the model never met would be worse than none."""
    if evidence.dataset is None:
        return
    described = evidence.dataset.fingerprint
    for used, how in ((evidence.evaluation.dataset_fingerprint, "measured"), (evidence.trained_on or described, "trained")):
        if used != described:
            raise UsageError(f"the dataset card is of dataset {described}, and {used} was {how} on; give that one's card, or none")


def read_training(training: Path) -> dict[str, Any]:
    """What fine_tune says of its training; ``parameters`` is a dict."""
    path = training / TRAINING_FILE
    try:
        story = json.loads(path.read_text(encoding="utf-8"))
        return {**story, "parameters": {str(name): value for name, value in story["parameters"].items()}}
    except FileNotFoundError as error:
        raise UsageError(f"{training}: no {TRAINING_FILE}; give the report folder that `avskrift fine-tune` wrote") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: not a training report ({error}); give the one that `avskrift fine-tune` wrote") from error


def _curves(path: Path) -> Iterator[CurvePoint]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield parse_point(line)
            except (ValueError, TypeError, KeyError) as error:
                raise UsageError(f"{path}: line {number} is no point of a curve ({error}); run fine-tune again") from error
