"""The TrainJobs that train_on_nodes applies: as they were reviewed, as Kubeflow Trainer's own schema takes them, with a job that fits.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/golden/test_trainjob_manifest.py`` writes the golden files anew.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from crd_schema import faults

from avskrift.deployment.render import to_yaml
from avskrift.deployment.trainjob import HUB_KEYS, JOB_VARIABLE, MLFLOW_KEYS, STORE_KEYS, TrainJob, render
from avskrift.errors import UsageError
from avskrift.steps.fine_tune import node
from avskrift.steps.fine_tune.job import read_job
from avskrift.steps.train_on_nodes.step import Config, train_job
from avskrift.training.config import TrainingConfig

_GOLDEN = Path(__file__).parent / "deployment"
_SHARED = Path(__file__).parents[3] / "shared" / "crds"
_RUN = "6f1a2f0e-5b0c-4b43-9d5d-0f6f3f2b9c11"

CONFIGS = {
    "trainjob-gpu": Config(
        dataset_uri="minio://mlpipeline/v2/artifacts/avskrift-distributed/prepare/dataset",
        base_model="openai/whisper-large-v3",
        output="minio://mlpipeline/avskrift",
        image="registry.example/avskrift/train@sha256:" + "3" * 64,
        training=TrainingConfig(epochs=5, batch_seconds=1200.0),
        experiment="avskrift",
        tracking_uri="http://mlflow.mlflow:5000",
        run_id=_RUN,
        nodes=2,
        gpus="8",
        cpu="64",
        memory="320Gi",
        scratch="500Gi",
        node_selector={"gpu-model": "h100"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        service_account="avskrift-train",
        store_secret="avskrift-object-store",
        hub_secret="avskrift-hub",
        mlflow_secret="avskrift-mlflow",
    ),
    "trainjob-cpu": Config(
        dataset_uri="s3://data/sv",
        base_model="s3://models/whisper-tiny",
        output="s3://models/runs",
        image="registry.example/avskrift/train@sha256:" + "4" * 64,
        run_id=_RUN,
        nodes=3,
        gpus="0",
    ),
}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "KFP_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def _job(name: str) -> TrainJob:
    return train_job(CONFIGS[name], namespace="speech")


def _schema() -> dict[str, Any]:
    """v1alpha1 of Kubeflow Trainer's published CRD, which the project does not copy."""
    path = Path(os.environ.get("AVSKRIFT_CRDS") or _SHARED) / "trainer.kubeflow.org_trainjobs.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is not here: set AVSKRIFT_CRDS to a folder with Kubeflow Trainer's CRDs")
    crd = next(found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found)
    (version,) = (entry for entry in crd["spec"]["versions"] if entry["name"] == "v1alpha1")
    structural: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return structural


@pytest.mark.parametrize("name", CONFIGS)
def test_the_manifest_is_the_reviewed_one(name: str) -> None:
    golden, text = _GOLDEN / f"{name}.yaml", to_yaml(render(_job(name)))
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN") == "1":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CONFIGS)
def test_trainers_schema_takes_the_manifest(name: str) -> None:
    assert faults(yaml.safe_load(to_yaml(render(_job(name)))), _schema(), "") == []


def test_the_check_sees_what_the_schema_does_not_name() -> None:
    manifest = render(_job("trainjob-gpu"))
    manifest["spec"]["trainer"]["numNode"] = 2
    del manifest["spec"]["runtimeRef"]["name"]
    _pod(manifest)["hostNetwork"] = True
    found = faults(manifest, _schema(), "")
    assert found[:2] == [".spec.runtimeRef.name is missing", ".spec.trainer.numNode is not in the schema"]
    assert [fault.rpartition(".")[2] for fault in found[2:]] == ["hostNetwork is not in the schema"]


@pytest.mark.parametrize("name", CONFIGS)
def test_its_job_is_a_configuration_of_the_step_and_its_command_reads_it(name: str) -> None:
    variables = {variable["name"]: variable for variable in render(_job(name))["spec"]["trainer"]["env"]}
    config = read_job(variables[JOB_VARIABLE]["value"])
    assert config.training == CONFIGS[name].training
    assert str(config.checkpoints).startswith("s3://")
    assert JOB_VARIABLE == node.JOB_VARIABLE
    assert render(_job(name))["spec"]["trainer"]["command"] == ["python", "-m", node.__name__]


def test_no_secret_is_in_plain_text_and_one_that_is_not_there_is_no_error() -> None:
    keys = {**dict.fromkeys(STORE_KEYS, "avskrift-object-store"), **dict.fromkeys(HUB_KEYS, "avskrift-hub")}
    keys |= dict.fromkeys(MLFLOW_KEYS, "avskrift-mlflow")
    variables = {variable.pop("name"): variable for variable in render(_job("trainjob-gpu"))["spec"]["trainer"]["env"]}
    for key, secret in keys.items():
        assert variables[key] == {"valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
    assert not keys.keys() & {variable["name"] for variable in render(_job("trainjob-cpu"))["spec"]["trainer"]["env"]}


@pytest.mark.parametrize("name", CONFIGS)
def test_its_pods_are_restricted_and_known_to_the_network_policies(name: str) -> None:
    manifest = render(_job(name))
    pod, (container,) = _pod(manifest), _pod(manifest)["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    labels = _template(manifest)["metadata"]["labels"]
    assert (labels["avskrift/role"], labels["avskrift/run"]) == ("train", _RUN)


def test_kubernetes_finds_no_variable_in_the_job() -> None:
    job = replace(_job("trainjob-cpu"), job={"dataset": "s3://data/$(HOME)/price $5"})
    (value,) = (variable["value"] for variable in render(job)["spec"]["trainer"]["env"] if variable["name"] == JOB_VARIABLE)
    assert value == '{"dataset": "s3://data/$$(HOME)/price $$5"}'


def test_a_runs_job_is_called_alike_each_time_and_another_runs_otherwise() -> None:
    names = [train_job(replace(CONFIGS["trainjob-cpu"], run_id=run), namespace="speech").name for run in ("one", "one", "two")]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Train_1"}, "name 'Train_1' cannot be"),
        ({"name": "a" * 41}, "at most 40 lower-case letters"),
        ({"namespace": "a.b"}, "namespace 'a.b'"),
        ({"image": ""}, "needs an image"),
        ({"nodes": 0}, "0 nodes cannot be"),
        ({"processes": 0}, "0 processes of a node"),
        ({"cpu": "many"}, "CPUs 'many'"),
        ({"memory": "40 GB"}, "memory '40 GB'"),
        ({"scratch": ""}, "scratch disk ''"),
        ({"memory": "8Gi"}, "shared memory of 8Gi counts as memory"),
        ({"store_secret": "Store_Keys"}, "store's Secret 'Store_Keys'"),
        ({"service_account": "-x"}, "service account '-x'"),
        ({"gpu_type": "a GPU"}, "GPU type 'a GPU'"),
        ({"run_id": "run 1"}, "run id 'run 1'"),
        ({"node_selector": {"gpu": 1}}, "node selector gpu: 1"),
        ({"tolerations": [{"name": "gpu"}]}, "toleration .* has fields that are none"),
        ({"timeout_s": 0}, "0 seconds until it is ended"),
        ({"job": {"dataset": "x" * 100_001}}, "configuration has 1000.. bytes"),
    ],
)
def test_what_cannot_be_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render(replace(_job("trainjob-cpu"), **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "/mnt/models"}, "output is '/mnt/models', and the nodes share an object store alone"),
        ({"output": "s3://"}, "output is 's3://'"),
        ({"dataset_uri": "/data/sv"}, "dataset '/data/sv' is not where every node can read it"),
        ({"gpus": "two"}, "gpus is 'two'"),
        ({"run_id": ""}, "set KFP_RUN_ID"),
    ],
)
def test_what_the_nodes_cannot_reach_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train_job(replace(CONFIGS["trainjob-cpu"], **change), namespace="speech")


def _template(manifest: dict[str, Any]) -> dict[str, Any]:
    (patch,) = manifest["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template: dict[str, Any] = job["template"]["spec"]["template"]
    return template


def _pod(manifest: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = _template(manifest)["spec"]
    return pod
