"""The commands that do one step each, chained by hand as their help says, and those that look around."""

from __future__ import annotations

import inspect
import json
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from running import ANY_MODEL_PASSES, avskrift, started, temporaries_in, wait_until

from avskrift.corpus.dataset import open_dataset
from avskrift.whisper.package import open_package
from avskrift_pipelines.command.running import run
from avskrift_pipelines.fine_tune import fine_tune_pipeline
from avskrift_pipelines.parameters import DEPLOYMENT, NODE, REFRESH, SECRETS

_COMMANDS = ("run", "compile", "prepare", "fine-tune", "export", "evaluate", "gate", "register", "deploy", "serve", "transcribe")
_ALL_COMMANDS = (*_COMMANDS, "inspect", "status", "stop", "rollback", "doctor", "submit", "runs", "compare")


def told(home: Path, *arguments: object) -> Any:
    """What a command prints with --json, if it succeeds."""
    ended = avskrift(home, *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_the_steps_work_one_by_one(tiny_whisper: Path, tmp_path: Path, empty_database: Path) -> None:
    home = tmp_path / "home"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(empty_database, home / "mlflow" / "mlflow.db")  # two steps may end before MLflow has made its tables
    dataset, model, package = tmp_path / "dataset", tmp_path / "model", tmp_path / "package"
    evaluation, decision, deployment = tmp_path / "evaluation", tmp_path / "decision", tmp_path / "deployment"

    prepared = told(home, "prepare", "--source", "demo:tiny", "--out", dataset)
    assert prepared["fingerprint"] == open_dataset(dataset).description.fingerprint
    assert prepared["splits"]["train"]["clips"] == 24

    live = ("--run-id", "by-hand", "--checkpoints", tmp_path / "checkpoints")
    trained = told(home, "fine-tune", "--dataset", dataset, "--out", model, "--base-model", tiny_whisper, "--max-steps", 2, *live)
    assert trained["steps"] == 2
    assert list((tmp_path / "checkpoints").iterdir()) == [], "the job is done"
    assert not (home / "checkpoints").exists()
    assert _curve(home, "train_loss") == [1, 2], "while it trains, before anything is registered"

    exported = told(home, "export", "--model", model, "--training", trained["report"], "--out", package)
    assert exported["sha256"] == open_package(package).description.sha256

    measured = told(
        home, "evaluate", "--package", package, "--dataset", dataset, "--baseline", tiny_whisper, "--checks", "", "--out", evaluation
    )
    assert measured["clips"] == measured["candidate"]["hypotheses"] == 8

    look = avskrift(home, "gate", evaluation, "--policy", ANY_MODEL_PASSES, "--explain")
    assert look.returncode == 0
    assert "nothing was written" in look.stderr
    nowhere = avskrift(home, "gate", evaluation, "--package", package)
    assert (nowhere.returncode, "--out" in nowhere.stderr) == (2, True)

    asked = ("gate", evaluation, "--package", package, "--out", decision, "--policy", ANY_MODEL_PASSES)
    refused = avskrift(home, *asked, "--max-wer", 0)
    assert refused.returncode == 50
    assert "its upper end may be at most 0.00 %" in refused.stdout
    assert told(home, *asked)["passed"] is True

    named = ("--training", trained["report"], "--run-id", "by-hand", "--model-name", "by-hand")
    registering = ("register", "--package", package, "--evaluation", evaluation, "--decision", decision, *named)
    assert told(home, *registering)["version"] == told(home, *registering)["version"] == "1", "the same run registers once"
    assert _curve(home, "train_loss") == [1, 2], "and adds no point twice"
    assert _recorded(home).info.status == "FINISHED", "by hand nothing more is recorded"

    deploying = ("deploy", "--version", 1, "--model-name", "by-hand", "--target", "kserve", "--out", deployment)
    local_only = avskrift(home, *deploying)
    assert local_only.returncode == 2
    assert "s3://" in local_only.stderr
    assert not (deployment / "inferenceservice.yaml").exists()


def _curve(home: Path, name: str) -> list[int]:
    """The steps at which the pipeline's run in MLflow has points of a curve."""
    return [point.step for point in _mlflow(home).get_metric_history(_recorded(home).info.run_id, name)]


def _recorded(home: Path) -> Run:
    """The pipeline's run in MLflow, of which there is one."""
    registry = _mlflow(home)
    runs = registry.search_runs([registry.get_experiment_by_name("avskrift").experiment_id])
    (run,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)  # without those of its steps
    return run


def _mlflow(home: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")


def test_doctor_finds_this_machine_fit_or_says_what_is_missing(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = avskrift(tmp_path, "doctor", "--port", holder.getsockname()[1])
    assert taken.returncode == 1
    assert "MISSING  port" in taken.stdout
    findings = {finding["name"]: finding for finding in json.loads(avskrift(tmp_path, "doctor", "--json").stdout)}
    assert findings["packages"]["fine"], findings["packages"]["detail"]
    assert findings["weights"]["detail"] == "package:whisper-base"


@pytest.mark.parametrize("command", _ALL_COMMANDS)
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    ended = avskrift(tmp_path, command, "--help")
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) > 5


@pytest.mark.parametrize("command", ["status", "runs", "stop", "doctor"])
def test_a_state_folder_that_is_a_file_is_told_whatever_the_command(tmp_path: Path, command: str) -> None:
    (tmp_path / "home").write_text("mine", encoding="utf-8")
    refused = avskrift(tmp_path / "home", command)
    assert refused.returncode == 2
    assert refused.stderr == f"avskrift: the state folder {tmp_path / 'home'} is a file; name a folder in AVSKRIFT_HOME\n"


def test_status_of_an_empty_state_folder_is_no_error(tmp_path: Path) -> None:
    assert told(tmp_path / "home", "status")["endpoint"] is None
    assert told(tmp_path / "home", "stop") == {"stopped": False}


def test_every_option_of_run_is_a_parameter_of_the_pipeline() -> None:
    """No option that the pipeline would not take, on a laptop or on a cluster."""
    options = set(inspect.signature(run).parameters) - {"summary", "json_", "policy"}
    parameters = set(inspect.signature(fine_tune_pipeline.pipeline_func).parameters)
    assert options <= parameters
    of_a_cluster = {one.name for group in (NODE, SECRETS, DEPLOYMENT) for one in group} | {REFRESH.name}
    assert parameters - options == of_a_cluster - {"port"}


def test_compile_writes_yaml_that_check_then_accepts_and_a_changed_file_is_named(tmp_path: Path) -> None:
    out = tmp_path / "compiled"
    files = {file.stem: file for file in map(Path, told(tmp_path, "compile", "--out", out)["files"])}
    assert set(files) == {"fine_tune", "sweep", "evaluate_only", "retrain", "distributed"}
    file = files["sweep"]
    assert next(yaml.safe_load_all(file.read_text(encoding="utf-8")))["pipelineInfo"]["name"] == "avskrift-sweep"
    assert avskrift(tmp_path, "compile", "--out", out, "--check").returncode == 0
    file.write_text("changed: true\n", encoding="utf-8")
    drifted = avskrift(tmp_path, "compile", "--out", out, "--check")
    assert drifted.returncode == 2
    assert str(file) in drifted.stderr
    assert str(files["retrain"]) not in drifted.stderr


def test_compile_writes_resources_too_but_not_where_the_committed_yaml_is(tmp_path: Path) -> None:
    files = list(map(Path, told(tmp_path, "compile", "--manifests", "--out", tmp_path / "resources")["files"]))
    kinds = [[resource["kind"] for resource in yaml.safe_load_all(file.read_text(encoding="utf-8"))] for file in files]
    assert kinds == [["Pipeline", "PipelineVersion"]] * 5
    refused = avskrift(tmp_path, "compile", "--manifests")
    assert refused.returncode == 2
    assert "name another folder for the manifests with --out" in refused.stderr
    elsewhere = avskrift(tmp_path, "compile", "--check", "--out", tmp_path / "nowhere")
    assert elsewhere.returncode == 2
    assert "nowhere: there is no such folder here" in elsewhere.stderr


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "stopped before it was finished"), (signal.SIGTERM, 42, "which is saved; run the same command again")],
)
def test_a_step_that_is_stopped_says_so_and_leaves_nothing_half_written(
    tiny_whisper: Path, tiny_dataset: Path, tmp_path: Path, number: signal.Signals, code: int, says: str
) -> None:
    home, log, out = tmp_path / "home", tmp_path / "log", tmp_path / "out" / "model"
    training = ("--epochs", 100, "--batch-seconds", 15, "--checkpoint-minutes", 0)
    step = started(home, ["fine-tune", "--dataset", tiny_dataset, "--out", out, "--base-model", tiny_whisper, *training], log)
    wait_until(lambda: any(home.glob("checkpoints/*/step-*")), what="a checkpoint")
    step.send_signal(number)
    assert step.wait(timeout=60) == code
    (sentence,) = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("avskrift: ")]
    assert says in sentence
    assert "Traceback" not in log.read_text(encoding="utf-8")
    assert list(out.parent.iterdir()) == []
    assert temporaries_in(home) == []
