"""What the steps before these leave behind, small: a package, an evaluation, the gate's decision, a training report."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from avskrift.deployment.local import Launch
from avskrift.evaluation.result import RESULT_FILE, Estimate, Evaluation, ModelScore, evaluation_as_json
from avskrift.steps.gate.step import Config as GateConfig
from avskrift.steps.gate.step import run as gate
from avskrift.storage.atomic import write_json
from avskrift.storage.manifest import digest_folder
from avskrift.whisper.package import DESCRIPTION_FILE, EncoderContext, ModelPackage, PackageDescription, description_as_json, open_package

_STAND_IN = Path(__file__).with_name("stand_in_predictor.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """One pipeline run's outputs."""

    package: ModelPackage
    evaluation: Path
    decision: Path
    training: Path

    @property
    def sha256(self) -> str:
        return self.package.description.sha256


def make_package(folder: Path, weights: bytes = b"weights") -> ModelPackage:
    for name in ("hf/model.safetensors", "ct2/model.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(weights)
    description = PackageDescription(
        base_model="package:whisper-base",
        base_model_sha256="0" * 64,
        languages=("sv",),
        encoder_context=EncoderContext(policy="variable"),
        files=digest_folder(folder, without=[DESCRIPTION_FILE]),
        code_version="0.1.0+abc",
    )
    write_json(folder / DESCRIPTION_FILE, description_as_json(description))
    return open_package(folder)


def make_evaluation(package_sha256: str, wer: float = 0.2) -> Evaluation:
    candidate, baseline = _score("candidate", package_sha256, wer), _score("package:whisper-base", "b" * 64, 0.8)
    difference = candidate.wer.value - baseline.wer.value
    return Evaluation(
        dataset_fingerprint="f" * 64,
        split="test",
        language="sv",
        normaliser="generic-1",
        clips=100,
        hours=0.125,
        speakers=8,
        resampled="speakers",
        resamples=2000,
        confidence=0.95,
        candidate=candidate,
        baseline=baseline,
        wer_difference=Estimate(value=difference, low=difference - 0.05, high=difference + 0.05),
        engine="ctranslate2 4.8.5 int8",
    )


def make_material(folder: Path, *, wer: float = 0.2, weights: bytes = b"weights") -> Material:
    package = make_package(folder / "package", weights)
    evaluation, training, decision = folder / "evaluation", folder / "training", folder / "decision"
    evaluation.mkdir(parents=True)
    write_json(evaluation / RESULT_FILE, evaluation_as_json(make_evaluation(package.description.sha256, wer)))
    (evaluation / "report.html").write_text("<title>report</title>", encoding="utf-8")
    training.mkdir()
    write_json(training / "training.json", {"parameters": {"learning_rate": 2e-5, "epochs": 6, "base_model": "package:whisper-base"}})
    points: list[dict[str, Any]] = [{"step": step, "name": "train_loss", "value": 2.0 / step} for step in range(1, 6)]
    points.append({"step": 5, "name": "validation_wer", "value": 0.25})
    (training / "curves.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points), encoding="utf-8")
    gate(GateConfig(evaluation=evaluation, package_sha256=package.description.sha256, out=decision, max_wer=0.3))
    return Material(package=package, evaluation=evaluation, decision=decision, training=training)


def stand_in(mode: str = "good", *extra: str) -> Any:
    """A launcher of the stand-in predictor."""

    def launch(*, package: Path, version: str, service: str, port: int) -> Launch:
        command = (sys.executable, str(_STAND_IN), "--port", str(port), "--mode", mode, "--version", version, *extra)
        return Launch(package=package, version=version, service=service, port=port, command=command)

    return launch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)


def _score(uri: str, sha256: str, wer: float) -> ModelScore:
    words = 1000
    errors = round(wer * words)
    return ModelScore(
        uri=uri,
        package_sha256=sha256,
        wer=Estimate(value=errors / words, low=wer - 0.02, high=wer + 0.02),
        cer=Estimate(value=wer / 2, low=wer / 2 - 0.01, high=wer / 2 + 0.01),
        substitutions=errors,
        deletions=0,
        insertions=0,
        reference_words=words,
        hypotheses=100,
        audio_seconds_per_second=12.5,
    )


def with_measured_package(evaluation: Path, sha256: str) -> None:
    """Rewrite an evaluation as if it had measured another package."""
    changed = make_evaluation(sha256)
    write_json(evaluation / RESULT_FILE, evaluation_as_json(changed))
