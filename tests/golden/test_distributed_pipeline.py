"""The compiled pipeline avskrift-distributed: its training step waits for other pods, and hands on addresses instead of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from avskrift.steps.images import image
from avskrift_pipelines import parameters

_COMMITTED = Path(__file__).parents[2] / "pipelines" / "compiled" / "distributed.yaml"


def _documents() -> tuple[dict[str, Any], dict[str, Any]]:
    specification, platforms = yaml.safe_load_all(_COMMITTED.read_text(encoding="utf-8"))
    return specification, platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def _tasks() -> dict[str, Any]:
    tasks: dict[str, Any] = _documents()[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return tasks


def test_no_step_asks_for_a_gpu_and_the_one_that_waits_runs_where_the_cluster_may_be_asked() -> None:
    specification, platform = _documents()
    executors = specification["deploymentSpec"]["executors"]
    assert not [name for name, executor in executors.items() if "accelerator" in executor.get("container", {}).get("resources", {})]
    assert executors["exec-train-on-nodes"]["container"]["image"] == image("ops")
    assert platform["exec-train-on-nodes"]["podMetadata"]["labels"] == {"avskrift/role": "ops"}
    assert [field["name"] for field in platform["exec-train-on-nodes"]["fieldPathAsEnv"]] == ["KFP_RUN_ID"]


def test_the_training_image_is_handed_to_it_and_it_downloads_no_artifact() -> None:
    task = _tasks()["train-on-nodes"]["inputs"]
    assert "artifacts" not in task
    assert task["parameters"]["train_image"]["runtimeValue"]["constant"] == image("train")
    assert task["parameters"]["dataset_uri"]["taskOutputParameter"]["producerTask"] == "prepare"


def test_every_parameter_about_nodes_training_and_secrets_arrives_at_it() -> None:
    arriving = _tasks()["train-on-nodes"]["inputs"]["parameters"]
    for group in (parameters.NODES, (parameters.OUTPUT,), parameters.TRAINING_ON_NODES, parameters.SECRETS):
        for parameter in group:
            name = "options" if parameter.name == "training_options" else parameter.name
            assert arriving[name]["componentInputParameter"] == f"pipelinechannel--{parameter.name}"


def test_what_it_put_into_the_store_is_what_export_takes() -> None:
    tasks = _tasks()
    taken = {name: source["taskOutputArtifact"]["producerTask"] for name, source in tasks["export"]["inputs"]["artifacts"].items()}
    imported = {name: tasks[taken[name]]["inputs"]["parameters"]["uri"]["taskOutputParameter"] for name in ("model", "training")}
    assert {name: (source["producerTask"], source["outputParameterKey"]) for name, source in imported.items()} == {
        "model": ("train-on-nodes", "model_uri"),
        "training": ("train-on-nodes", "training_uri"),
    }


def test_a_new_try_of_it_is_made_and_goes_on_waiting() -> None:
    assert _tasks()["train-on-nodes"]["retryPolicy"]["maxRetryCount"] == 3
