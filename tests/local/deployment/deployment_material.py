"""What the steps before these leave behind, small: a package, an evaluation, the gate's decision, a training report."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import evaluations
import psutil

from avskrift.deployment.local import Launch
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.result import NORMALISED, Difference, ErrorRates, Evaluation
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
    """A sound evaluation of this package with this WER, of a tenth at least, beside a baseline of 0.8."""
    sound = evaluations.evaluation()
    candidate = replace(
        sound.candidate,
        uri="candidate",
        package_sha256=package_sha256,
        rates={**sound.candidate.rates, NORMALISED: _rates(wer)},
        speed=replace(sound.candidate.speed, audio_seconds_per_second=12.5),
    )
    baseline = replace(sound.baseline, rates={**sound.baseline.rates, NORMALISED: _rates(0.8)})
    difference = candidate.wer.value - baseline.wer.value
    compared = Difference(value=difference, low=difference - 0.05, high=difference + 0.05, wins=1.0)
    return replace(sound, candidate=candidate, baseline=baseline, wer_difference=compared)


def write_evaluation(folder: Path, package_sha256: str, wer: float = 0.2) -> None:
    """The evaluation's folder, without the report."""
    clips = [replace(clip, candidate_errors=round(wer * clip.reference_words), baseline_errors=8) for clip in evaluations.clip_results()]
    evaluations.write_evaluation(folder, make_evaluation(package_sha256, wer), clips)


def make_material(
    folder: Path, *, wer: float = 0.2, weights: bytes = b"weights", override: str = "", package: ModelPackage | None = None
) -> Material:
    """``override`` is who went past the gate, and why; ``package`` is one that was made elsewhere."""
    package = package or make_package(folder / "package", weights)
    evaluation, training, decision = folder / "evaluation", folder / "training", folder / "decision"
    write_evaluation(evaluation, package.description.sha256, wer)
    training.mkdir()
    write_json(training / "training.json", {"parameters": {"learning_rate": 2e-5, "epochs": 6, "base_model": "package:whisper-base"}})
    points: list[dict[str, Any]] = [{"step": step, "name": "train_loss", "value": 2.0 / step} for step in range(1, 6)]
    points.append({"step": 5, "name": "validation_wer", "value": 0.25})
    (training / "curves.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points), encoding="utf-8")
    gate(
        GateConfig(
            evaluation=evaluation,
            package_sha256=package.description.sha256,
            out=decision,
            policy=Policy(max_wer=0.3),
            override_by=override,
            override_reason=override,
        )
    )
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


def _rates(wer: float) -> ErrorRates:
    words = 1000
    errors = round(wer * words)
    return ErrorRates(
        wer=evaluations.estimate(errors / words, 0.02),
        cer=evaluations.estimate(wer / 2, 0.01),
        substitutions=errors,
        deletions=0,
        insertions=0,
        reference_words=words,
    )
