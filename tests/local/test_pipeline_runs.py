"""The whole pipeline under kfp.local with a tiny, randomly initialised Whisper: real processes, real MLflow, the real server."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from mlflow import MlflowClient
from running import avskrift, free_port, processes_of, run_arguments

pytestmark = pytest.mark.runs

MODEL = "avskrift-sv"


@dataclass(frozen=True)
class FinishedRun:
    home: Path
    port: int
    base: Path
    summary: dict[str, Any]
    output: str

    @property
    def registry(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}")


@pytest.fixture(scope="module")
def finished(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedRun]:
    home = tmp_path_factory.mktemp("home")
    port, summary = free_port(), home / "summary.json"
    ended = avskrift(home, *run_arguments(tiny_whisper, port, "--summary", summary, "--training", "label_smoothing=0.1"))
    assert ended.returncode == 0, ended.stderr
    yield FinishedRun(home, port, tiny_whisper, json.loads(summary.read_text(encoding="utf-8")), ended.stderr)
    avskrift(home, "stop")
    assert processes_of(home) == []


def test_the_summary_says_what_happened(finished: FinishedRun) -> None:
    summary = finished.summary
    assert summary["gate_passed"] is True
    assert summary["gate_reasons"]
    assert summary["model_version"] == "1"
    assert summary["endpoint"] == f"http://127.0.0.1:{finished.port}"
    low, high = summary["wer_after_ci"]
    assert low <= summary["wer_after"] <= high
    steps = {
        "total",
        "list_parts",
        "read_part_0",
        "prepare",
        "fine_tune",
        "export",
        "find_baseline",
        "evaluate",
        "gate",
        "register",
        "deploy",
        "finalize",
    }
    assert summary["seconds"].keys() == steps
    assert summary["seconds"]["total"] >= max(seconds for name, seconds in summary["seconds"].items() if name != "total")
    assert summary["peak_rss_mb"] > 100


def test_a_person_sees_each_step_the_rates_and_a_command_to_paste(finished: FinishedRun) -> None:
    for step in (
        "list_parts",
        "read_part_0",
        "prepare",
        "fine_tune",
        "export",
        "find_baseline",
        "evaluate",
        "gate",
        "register",
        "deploy",
        "finalize",
    ):
        assert re.search(rf"^  {step}: done", finished.output, re.MULTILINE), step
    assert "WER before" in finished.output
    assert "heard after" in finished.output
    assert "UserWarning" not in finished.output
    (command,) = re.findall(r"^  (curl .+)$", finished.output, re.MULTILINE)
    answer = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=True)
    assert "text" in json.loads(answer.stdout)


def test_mlflow_holds_parameters_metrics_curves_and_the_version_with_both_aliases(finished: FinishedRun) -> None:
    version = finished.registry.get_model_version_by_alias(MODEL, "champion")
    challenger = finished.registry.get_model_version_by_alias(MODEL, "challenger")
    assert str(version.version) == str(challenger.version) == "1"
    run = finished.registry.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["epochs"], run.data.params["label_smoothing"]) == ("1", "0.1")
    assert run.data.metrics["wer"] == pytest.approx(finished.summary["wer_after"])
    for curve in ("train_loss", "learning_rate", "validation_wer"):
        points = finished.registry.get_metric_history(version.run_id, curve)
        assert points, curve
        assert [point.step for point in points] == sorted({point.step for point in points}), "each point once, though sent twice"


def test_the_training_step_shows_a_page_and_its_figures(finished: FinishedRun) -> None:
    (page,) = finished.home.glob("runs/*/pipeline/**/fine-tune/page")
    assert "fine-tuned" in page.read_text(encoding="utf-8")
    log = next(finished.home.glob("runs/*/run.log")).read_text(encoding="utf-8")
    assert "live_metrics.off" not in log


def test_status_shows_the_endpoint_the_run_and_how_to_open_mlflow(finished: FinishedRun) -> None:
    told = json.loads(avskrift(finished.home, "status", "--json").stdout)
    assert told["endpoint"]["state"] == "ready"
    assert told["endpoint"]["version"] == "1"
    assert told["last_run"]["state"] == "succeeded"
    assert "mlflow ui --backend-store-uri sqlite:" in avskrift(finished.home, "status").stdout


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_recordings_of_each_type_are_transcribed_here_and_through_the_endpoint(
    finished: FinishedRun, tmp_path: Path, container: str
) -> None:
    (sample,) = finished.home.glob("runs/*/clip.flac")
    samples, rate = sf.read(sample)
    recording = tmp_path / f"clip.{container.lower()}"
    sf.write(recording, samples, rate, format=container)
    here = avskrift(finished.home, "transcribe", recording, "--language", "sv")
    there = avskrift(finished.home, "transcribe", recording, "--language", "sv", "--endpoint", finished.summary["endpoint"])
    assert here.returncode == there.returncode == 0, here.stderr + there.stderr
    assert here.stdout == there.stdout != ""


def test_srt_is_valid(finished: FinishedRun) -> None:
    (sample,) = finished.home.glob("runs/*/clip.flac")
    endpoint = finished.summary["endpoint"]
    ended = avskrift(finished.home, "transcribe", sample, "--format", "srt", "--language", "sv", "--endpoint", endpoint)
    cue = r"\d+\n\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}\n.+\n"
    assert re.fullmatch(rf"({cue}(\n|$))*", ended.stdout), ended.stdout


def test_an_endpoint_that_refuses_says_why(finished: FinishedRun, tmp_path: Path) -> None:
    text = tmp_path / "letter.mp3"
    text.write_text("not a recording")
    ended = avskrift(finished.home, "transcribe", text, "--endpoint", finished.summary["endpoint"])
    assert ended.returncode == 72
    assert "415" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_refused_model_is_recorded_and_changes_nothing_that_serves(finished: FinishedRun, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    ended = avskrift(finished.home, *run_arguments(finished.base, finished.port, "--seed", 2, "--max-wer", 0, "--summary", summary))
    assert ended.returncode == 0, ended.stderr
    told = json.loads(summary.read_text(encoding="utf-8"))
    assert told["gate_passed"] is False
    assert any("its upper end may be at most 0.00 %" in reason for reason in told["gate_reasons"])
    assert (told["model_version"], told["endpoint"]) == ("", "")
    experiment = finished.registry.get_experiment_by_name("avskrift")
    runs = finished.registry.search_runs([experiment.experiment_id])
    gates = [run.data.tags["avskrift.gate"] for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(gates) == ["passed", "rejected"]
    assert str(finished.registry.get_model_version_by_alias(MODEL, "champion").version) == "1"
    assert json.loads(avskrift(finished.home, "status", "--json").stdout)["endpoint"]["state"] == "ready"


def test_a_tone_is_no_reason_to_fail(finished: FinishedRun, tmp_path: Path) -> None:
    tone = np.sin(np.arange(16_000) * 0.2) * 0.1
    buffer = io.BytesIO()
    sf.write(buffer, tone, 16_000, format="WAV")
    recording = tmp_path / "tone.wav"
    recording.write_bytes(buffer.getvalue())
    assert avskrift(finished.home, "transcribe", recording, "--endpoint", finished.summary["endpoint"]).returncode == 0
