"""train_on_nodes against a mock of the Kubernetes API: its TrainJob completes, fails, is adopted, resumed, suspended and out of reach."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import api_server
import pytest
from api_server import HANG, Object, Refuses, wait_until
from cluster_world import PATIENCE, write_kubeconfig
from kubeflow_trainer import COMPLETE, FAILED, IMAGE, JOBS, NO_NODE, PACE, RUNNING, Trainer, condition, schema, terminated
from mlflow import MlflowClient

from avskrift.deployment.cluster import connect
from avskrift.deployment.trainjob import render
from avskrift.errors import (
    AvskriftError,
    ClusterError,
    ConflictError,
    DatasetError,
    InterruptedRunError,
    StepFailedError,
    TrainingError,
    UsageError,
)
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.steps.boundary import boundary
from avskrift.steps.train_on_nodes import step
from avskrift.steps.train_on_nodes.step import train_job

LOST = terminated(1, "unexpected RuntimeError: Connection closed by peer; this is a bug")
BAD_CLIP = terminated(DatasetError.exit_code, "loading\navskrift fine_tune: clip seven: its audio cannot be decoded")


@pytest.fixture(scope="module")
def trainers_schema() -> Object | None:
    return schema()


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainers_schema: Object | None) -> Iterator[Trainer]:
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KFP_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(step, "connect", partial(connect, patience=PATIENCE))
    monkeypatch.setattr(api_server, "schema_if_here", lambda: trainers_schema)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with api_server.api_server() as server:
        made = Trainer(server, tmp_path / "kubeconfig")
        server.before_read = made.reconcile
        write_kubeconfig(made.kubeconfig, server.url)
        yield made
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_job_is_applied_followed_and_its_results_are_named(trainer: Trainer, capfd: pytest.CaptureFixture[str]) -> None:
    with boundary("train_on_nodes"):
        result = trainer.run()
    assert (result.model_uri, result.training_uri) == ("s3://models/runs/run-1/model", "s3://models/runs/run-1/training")
    (query,) = (query for method, _, query in trainer.server.asked if method == "PATCH")
    assert query == {"fieldManager": "avskrift", "fieldValidation": "Strict", "force": "false"}
    said = capfd.readouterr().err
    assert "2 of 2 nodes run" in said
    assert "trainjob.complete" in said
    job = json.loads(trainer.job()["spec"]["trainer"]["env"][0]["value"])
    assert (job["out"], job["dataset"]) == (result.model_uri, "s3://data/sv")


@pytest.mark.parametrize(
    ("pods", "kind", "message"),
    [
        ([RUNNING, IMAGE], TrainingError, r"pod avskrift-train-\w+-node-0-1, container node: ImagePullBackOff: Back-off pulling image x"),
        (
            [RUNNING, terminated(137, reason="OOMKilled")],
            TrainingError,
            r"node-0-1 was killed for memory \(OOMKilled\); give the nodes more",
        ),
        ([LOST, BAD_CLIP], DatasetError, r"node-0-1: avskrift fine_tune: clip seven: its audio cannot be decoded"),
    ],
    ids=["image", "memory", "sentence"],
)
def test_what_no_waiting_mends_ends_it_at_once_with_the_pods_reason_and_gives_the_gpus_back(
    trainer: Trainer, pods: list[Object], kind: type[AvskriftError], message: str
) -> None:
    trainer.pods, trainer.ends = pods, {}
    with pytest.raises(kind, match=message) as failure:
        trainer.run(pace=replace(PACE, timeout_s=600))
    assert type(failure.value) is kind
    assert "it is suspended" in str(failure.value)
    assert trainer.suspended()


@pytest.mark.parametrize("keeps_pods", [True, False])
def test_a_failed_job_is_told_by_the_first_cause_even_if_its_pods_are_gone(trainer: Trainer, keeps_pods: bool) -> None:
    trainer.pods, trainer.keeps_pods = [LOST, BAD_CLIP], keeps_pods
    trainer.ends = FAILED
    with pytest.raises(DatasetError, match="clip seven"):
        trainer.run(pace=replace(PACE, settle_s=60))
    assert not trainer.suspended()


def test_a_failed_job_without_a_word_of_its_pods_is_told_by_trainers(trainer: Trainer) -> None:
    trainer.ends = condition("Failed", "TrainingRuntimeNotSupported", "unsupported runtime: torch-distributed")
    with pytest.raises(TrainingError, match="TrainingRuntimeNotSupported: unsupported runtime: torch-distributed"):
        trainer.run()


def test_a_node_that_only_lost_the_others_is_waited_for(trainer: Trainer) -> None:
    """Kubernetes starts it again, and training goes on from its checkpoint."""
    trainer.pods = [terminated(42, "avskrift fine_tune: stopped by SIGTERM after step 7"), LOST]
    trainer.run(pace=replace(PACE, settle_s=0.0))


def test_the_step_started_again_goes_on_waiting_for_its_job(trainer: Trainer) -> None:
    trainer.run()
    trainer.looks.clear()
    trainer.server.asked.clear()
    trainer.run()
    assert set(trainer.methods()) == {"GET"}
    assert [path for path in trainer.server.objects if path.startswith(JOBS)] == [f"{JOBS}/{trainer.name}"]


@pytest.fixture
def tracking(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow, as the step finds it in its environment."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def environment(trainer: Trainer) -> dict[str, str]:
    """What the nodes are told in plain text."""
    variables = trainer.job()["spec"]["trainer"]["env"]
    assert len({variable["name"] for variable in variables}) == len(variables), "Kubernetes takes each name once"
    return {variable["name"]: variable["value"] for variable in variables if "value" in variable}


@pytest.mark.parametrize("secret", ["", "avskrift-mlflow"])
def test_the_nodes_record_into_the_run_of_kfps_plugin_and_make_none_of_their_own(
    trainer: Trainer, tracking: str, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """The plugin's experiment has another name than the one that the nodes would look in."""
    client = MlflowClient(tracking)
    pipeline = client.create_run("0").info.run_id
    handler = client.create_run("0", tags={"mlflow.parentRunId": pipeline}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run("0", tags={"mlflow.parentRunId": handler}).info.run_id)
    trainer.run(experiment="swedish", mlflow_secret=secret)
    told = environment(trainer)
    assert (told["MLFLOW_RUN_ID"], told["MLFLOW_TRACKING_URI"]) == (pipeline, tracking)
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(variable, told[variable])
    job = json.loads(told["AVSKRIFT_JOB"])
    of_node = RunKey(pipeline_run_id=told["KFP_RUN_ID"], experiment=job["experiment"])
    assert open_registry(job["tracking_uri"]).open_run(of_node) == pipeline
    assert [run.info.run_id for run in client.search_runs(["0"], f"tags.`{tags.PIPELINE_RUN_ID}` != ''")] == [pipeline]
    assert client.get_experiment_by_name("swedish") is None


def test_without_the_plugin_the_step_makes_the_run_that_the_nodes_record_into(trainer: Trainer, tracking: str) -> None:
    trainer.run(experiment="swedish")
    run = MlflowClient(tracking).get_run(environment(trainer)["MLFLOW_RUN_ID"])
    assert run.data.tags[tags.PIPELINE_RUN_ID] == "run-1"


def test_without_an_address_of_mlflow_nothing_is_said_of_it(trainer: Trainer) -> None:
    trainer.run(experiment="swedish")
    assert not [name for name in environment(trainer) if name.startswith("MLFLOW")]


def test_an_mlflow_that_is_away_does_not_keep_the_nodes_from_training(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with boundary("train_on_nodes"):
        trainer.run(experiment="swedish", tracking_uri="http://127.0.0.1:1")
    assert "mlflow_run.not_known" in capfd.readouterr().err
    assert not [name for name in environment(trainer) if name.startswith("MLFLOW")]


@pytest.mark.parametrize("first", [True, False], ids=["then away", "away at first"])
def test_a_job_that_goes_on_keeps_its_environment_whether_mlflow_is_away_or_back(trainer: Trainer, tracking: str, first: bool) -> None:
    """Trainer refuses any change to a job's spec.trainer."""
    there = {True: {"experiment": "swedish", "tracking_uri": tracking}, False: {"experiment": "'"}}  # MLflow refuses the latter
    trainer.ends = {}
    with pytest.raises(TrainingError):
        trainer.run(pace=replace(PACE, timeout_s=0.1), **there[first])
    before = trainer.job()["spec"]["trainer"]
    assert trainer.suspended()
    trainer.ends = COMPLETE
    trainer.run(**there[not first])
    assert not trainer.suspended()
    assert trainer.job()["spec"]["trainer"] == before


@pytest.mark.parametrize(
    ("secret", "said"), [("avskrift-mlflow", ""), ("", "https://anna:hemligt@mlflow.example")], ids=["secret", "no secret"]
)
def test_an_address_with_credentials_stays_in_the_secret_that_it_came_from(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, secret: str, said: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://anna:hemligt@mlflow.example")
    job = train_job(trainer.config(mlflow_secret=secret), namespace="speech")
    assert job.job["tracking_uri"] == said
    assert ("hemligt" in json.dumps(render(replace(job, mlflow_run="0" * 32)))) == bool(said)


def test_after_a_failed_job_comes_another_and_the_first_stays_to_be_looked_into(trainer: Trainer) -> None:
    trainer.ends = FAILED
    with pytest.raises(TrainingError):
        trainer.run()
    failed = trainer.name

    def second_completes(path: str) -> None:
        trainer.ends = FAILED if path.endswith(failed) else COMPLETE
        trainer.reconcile(path)

    trainer.server.before_read = second_completes
    result = trainer.run()
    assert result.train_job == f"{failed}-2"
    assert result.model_uri == "s3://models/runs/run-1/model", "where the pipeline looks for it, whichever job made it"
    assert trainer.job(failed)["status"]["conditions"][0]["type"] == "Failed"


def test_sigterm_suspends_the_job_and_the_step_started_again_resumes_it(trainer: Trainer, capfd: pytest.CaptureFixture[str]) -> None:
    trainer.ends = {}
    threading.Thread(target=_signal_when_it_runs, args=(trainer,), daemon=True).start()
    with pytest.raises(SystemExit) as stopped, boundary("train_on_nodes"):
        trainer.run(pace=replace(PACE, timeout_s=600))
    assert stopped.value.code == InterruptedRunError.exit_code
    assert "it is suspended, and the same step started again goes on with it" in capfd.readouterr().err
    assert trainer.suspended()
    trainer.ends = COMPLETE
    assert trainer.run().train_job == trainer.name
    assert not trainer.suspended()


def _signal_when_it_runs(trainer: Trainer) -> None:
    wait_until(lambda: trainer.looks.get(trainer.name, 0) > 3)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_job_that_a_queue_has_suspended_is_waited_for_and_not_resumed(trainer: Trainer) -> None:
    """As Kueue does until there is room."""
    trainer.ends = {}

    def queue(path: str) -> None:
        if path in trainer.server.objects:
            trainer.job()["spec"]["suspend"] = True
        trainer.reconcile(path)

    trainer.server.before_read = queue
    with pytest.raises(TrainingError, match=r"it is suspended .* a queue admits it"):
        trainer.run(pace=replace(PACE, timeout_s=0.2))


def test_time_that_is_over_is_told_with_what_was_waited_for_and_the_job_is_suspended(trainer: Trainer) -> None:
    trainer.pods, trainer.ends = [RUNNING, NO_NODE], {}
    with pytest.raises(TrainingError, match=r"not done within 0\.2 s: pod \S+ has no node: 0/3 nodes are available: 3 Insufficient"):
        trainer.run(pace=replace(PACE, timeout_s=0.2))
    assert trainer.suspended()


@pytest.mark.parametrize("status", [500, 503, 429, HANG])
def test_an_api_server_that_is_away_for_a_while_is_waited_for(trainer: Trainer, status: int) -> None:
    trainer.server.refuses.append(Refuses(status, times=2, method="PATCH"))
    away = Refuses(status, times=0, method="GET")
    trainer.server.refuses.append(away)

    def goes_away(path: str) -> None:
        trainer.reconcile(path)
        if trainer.looks.get(trainer.name) == 2:
            trainer.looks[trainer.name], away.times = 3, PATIENCE.tries + 1  # longer than one question has patience

    trainer.server.before_read = goes_away
    trainer.run(pace=replace(PACE, timeout_s=20))
    assert away.times == 0


def test_an_api_server_that_never_answers_is_told(trainer: Trainer) -> None:
    trainer.server.refuses.append(Refuses(503, times=1000))
    with pytest.raises(ClusterError, match="did not answer 4 times"):
        trainer.run()


def test_a_job_that_could_not_be_suspended_is_told_with_how_to_end_it(trainer: Trainer) -> None:
    trainer.pods, trainer.ends = [NO_NODE], {}
    trainer.put_by_hand()
    trainer.server.refuses.append(Refuses(500, times=1000, method="PATCH"))
    with pytest.raises(TrainingError, match=r"could not be suspended and may still run .* `kubectl delete trainjob \S+` ends it"):
        trainer.run(pace=replace(PACE, timeout_s=0.1))


def test_a_job_that_somebody_deleted_is_told(trainer: Trainer) -> None:
    def deleted(path: str) -> None:
        trainer.reconcile(path)
        if trainer.looks.get(trainer.name, 0) == 2:
            trainer.server.objects.pop(f"{JOBS}/{trainer.name}", None)

    trainer.server.before_read = deleted
    with pytest.raises(StepFailedError, match="is gone: somebody deleted it"):
        trainer.run()


def test_a_cluster_without_trainer_and_one_that_refuses_are_told(trainer: Trainer) -> None:
    trainer.server.unknown_kinds.add("trainjobs")
    with pytest.raises(ClusterError, match=r"does not know trainer\.kubeflow\.org/v1alpha1 .*is Kubeflow Trainer 2 installed there\?"):
        trainer.run()
    trainer.server.unknown_kinds.clear()
    trainer.server.refuses.append(Refuses(403, times=1, method="PATCH"))
    with pytest.raises(ClusterError, match="this account needs the Role"):
        trainer.run()


def test_a_trainer_that_is_too_old_for_the_manifest_is_told(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    old = schema()
    if old is None:
        pytest.skip("Kubeflow Trainer's CRDs are not here: set AVSKRIFT_CRDS")
    del old["properties"]["spec"]["properties"]["runtimePatches"]
    monkeypatch.setattr(api_server, "schema_if_here", lambda: old)
    with pytest.raises(UsageError, match=r"too old for spec\.runtimePatches"):
        trainer.run()


def test_a_suspended_job_that_somebody_else_manages_is_a_conflict(trainer: Trainer) -> None:
    trainer.put_by_hand(suspend=True, activeDeadlineSeconds=7)
    trainer.server.owners[f"{JOBS}/{trainer.name}"] = {"kubectl": {"spec|activeDeadlineSeconds"}}
    with pytest.raises(ConflictError, match=r"others manage fields that this step sets \(spec\.activeDeadlineSeconds conflict with"):
        trainer.run()
