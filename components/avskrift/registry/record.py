"""What is recorded of a pipeline run, whether its package was registered or rejected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from avskrift.errors import UsageError
from avskrift.evaluation.gate import Decision, read_decision
from avskrift.evaluation.result import REPORT_FILE, RESULT_FILE, Evaluation, read_evaluation
from avskrift.registry import tags
from avskrift.registry.protocol import CurvePoint, Registry

TRAINING_FILE = "training.json"
CURVES_FILE = "curves.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a run left behind: figures, the gate's word on them, and how the model was trained.

    ``training`` is fine_tune's report folder, or None where a package was not trained here.
    """

    folder: Path  # evaluate's output
    evaluation: Evaluation
    decision: Decision
    parameters: dict[str, Any]
    training: Path | None


def read_evidence(*, evaluation: str | Path, decision: str | Path, training: str | Path | None) -> Evidence:
    """Read the output folders of evaluate, of the gate and of fine_tune.

    Raises:
        EvaluationError: no evaluation or no decision, or one that breaks its contract.
        UsageError: a training folder without its ``training.json``, or with one that cannot be read.
    """
    measured, trained = Path(evaluation), Path(training) if training else None
    return Evidence(
        folder=measured,
        evaluation=read_evaluation(measured),
        decision=read_decision(Path(decision)),
        parameters=_parameters(trained) if trained else {},
        training=trained,
    )


def record(registry: Registry, run_id: str, evidence: Evidence, *, package_uri: str, code_version: str = "") -> dict[str, str]:
    """Write parameters, figures, curves, report and tags into the run; return the tags.

    Raises:
        RegistryError: MLflow did not answer or refused.
        UsageError: a line of the curves that cannot be read.
    """
    registry.log_params(run_id, evidence.parameters)
    registry.log_metrics(run_id, figures(evidence.evaluation))
    if evidence.training:
        registry.log_curves(run_id, _curves(evidence.training / CURVES_FILE))
    for name in (RESULT_FILE, REPORT_FILE):
        if (evidence.folder / name).is_file():
            registry.log_file(run_id, evidence.folder / name)
    labels = _labels(evidence, package_uri, code_version)
    registry.set_tags(run_id, labels)
    return labels


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The evaluation's figures under the names that they have in MLflow."""
    candidate, baseline, difference = evaluation.candidate, evaluation.baseline, evaluation.wer_difference
    return {
        "wer": candidate.wer.value,
        "wer_low": candidate.wer.low,
        "wer_high": candidate.wer.high,
        "cer": candidate.cer.value,
        "cer_low": candidate.cer.low,
        "cer_high": candidate.cer.high,
        "baseline_wer": baseline.wer.value,
        "baseline_wer_low": baseline.wer.low,
        "baseline_wer_high": baseline.wer.high,
        "baseline_cer": baseline.cer.value,
        "wer_difference": difference.value,
        "wer_difference_low": difference.low,
        "wer_difference_high": difference.high,
        "audio_seconds_per_second": candidate.audio_seconds_per_second,
        "baseline_audio_seconds_per_second": baseline.audio_seconds_per_second,
        "test_clips": evaluation.clips,
        "test_hours": evaluation.hours,
        "test_speakers": evaluation.speakers,
    }


def _labels(evidence: Evidence, package_uri: str, code_version: str) -> dict[str, str]:
    evaluation = evidence.evaluation
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
    }


def _parameters(training: Path) -> dict[str, Any]:
    path = training / TRAINING_FILE
    try:
        parameters = json.loads(path.read_text(encoding="utf-8"))["parameters"]
        return {str(name): value for name, value in parameters.items()}
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
                raw = json.loads(line)
                yield CurvePoint(step=int(raw["step"]), name=str(raw["name"]), value=float(raw["value"]))
            except (ValueError, TypeError, KeyError) as error:
                raise UsageError(f"{path}: line {number} is no point of a curve ({error}); run fine-tune again") from error
