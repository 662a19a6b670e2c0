"""The committed YAML is what the code compiles to, and what a cluster can take."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components
from test_deployment_manifest import faults

from avskrift.evaluation.policy import Policy
from avskrift_pipelines import parameters, stages
from avskrift_pipelines.compiled import PIPELINES, compiled, manifests
from avskrift_pipelines.fine_tune import fine_tune_pipeline
from avskrift_pipelines.form import Given, but, group, pipeline
from avskrift_pipelines.local import for_this_machine
from avskrift_pipelines.placement import ROLE_LABEL

_COMMITTED = Path(__file__).parents[2] / "pipelines" / "compiled"
_SHARED = Path(__file__).parents[3] / "shared" / "crds"
_NAMES = sorted(PIPELINES)


@functools.cache
def _spec(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = next(yaml.safe_load_all((_COMMITTED / f"{name}.yaml").read_text(encoding="utf-8")))
    return loaded


@pytest.mark.parametrize("name", _NAMES)
def test_the_committed_yaml_is_what_the_code_says(name: str) -> None:
    assert compiled(PIPELINES[name]) == (_COMMITTED / f"{name}.yaml").read_text(encoding="utf-8"), "run `make compile`"


@pytest.mark.parametrize("name", _NAMES)
def test_compiling_twice_gives_the_same_bytes(name: str) -> None:
    assert compiled(PIPELINES[name]) == compiled(PIPELINES[name])


@pytest.mark.parametrize("name", _NAMES)
def test_the_kfp_sdk_loads_the_yaml(name: str) -> None:
    loaded = components.load_component_from_file(str(_COMMITTED / f"{name}.yaml"))
    assert loaded.pipeline_spec.pipeline_info.name == PIPELINES[name].name


@pytest.mark.parametrize("name", _NAMES)
def test_nothing_is_installed_at_run_time(name: str) -> None:
    text = (_COMMITTED / f"{name}.yaml").read_text(encoding="utf-8")
    assert "pip install" not in text
    assert "ensurepip" not in text


@pytest.mark.parametrize("name", _NAMES)
def test_every_parameter_has_a_type_a_default_and_a_description(name: str) -> None:
    pipeline = PIPELINES[name]
    described = pipeline.component_spec.inputs
    for parameter in inspect.signature(pipeline.pipeline_func).parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.default is not inspect.Parameter.empty
        assert described[parameter.name].description


@pytest.mark.parametrize("name", _NAMES)
def test_what_stands_in_two_forms_has_one_meaning(name: str) -> None:
    main, own = (pipeline.component_spec.inputs for pipeline in (PIPELINES["fine_tune"], PIPELINES[name]))
    others = {"base_model"}  # what a model is compared with where none is trained
    if name == "distributed":
        others |= {"store_secret", *(one.name for one in parameters.NODES)}
    if name in ("distributed", "sweep"):
        others |= {"checkpoints"}  # of several nodes, which have no workspace
    for parameter in set(main) & set(own) - others:
        assert own[parameter].description == main[parameter].description
        assert own[parameter].default == main[parameter].default


@pytest.mark.parametrize("name", _NAMES)
def test_no_parameter_is_there_for_nothing(name: str) -> None:
    text = (_COMMITTED / f"{name}.yaml").read_text(encoding="utf-8")
    for parameter in PIPELINES[name].component_spec.inputs:
        uses = re.findall(rf"componentInputParameter: {parameter}$", text, flags=re.MULTILINE)
        assert uses, f"nothing takes {parameter}"


def test_a_change_of_one_default_is_one_line() -> None:
    def built(default: str) -> list[str]:
        form = group(parameters.BASE_MODEL, parameters.BASELINE, parameters.MODEL_NAME, parameters.TRACKING, *parameters.SECRETS)

        @pipeline("a-pipeline", but(form, model_name=default))
        def build(given: Given) -> None:
            """What it does."""
            stages.to_beat(given)

        return compiled(build).splitlines()

    before, after = built("avskrift-sv"), built("avskrift-nn")
    assert len(before) == len(after)
    assert [line.strip() for line, other in zip(before, after, strict=True) if line != other] == ["defaultValue: avskrift-sv"]


@pytest.mark.parametrize("name", _NAMES)
def test_kubeflows_schemas_take_it_as_resources_and_the_version_is_named_by_its_content(name: str) -> None:
    pipeline_resource, version = yaml.safe_load_all(manifests(PIPELINES[name], namespace="speech"))
    assert faults(pipeline_resource, _crd("pipelines"), "") == []
    assert faults(version, _crd("pipelineversions"), "") == []
    assert version["spec"]["pipelineName"] == pipeline_resource["metadata"]["name"] == PIPELINES[name].name
    text = (_COMMITTED / f"{name}.yaml").read_bytes()
    assert version["metadata"]["name"] == f"{PIPELINES[name].name}-{hashlib.sha256(text).hexdigest()[:12]}"
    assert version["metadata"]["namespace"] == "speech"


def _crd(plural: str) -> dict[str, Any]:
    path = Path(os.environ.get("AVSKRIFT_CRDS") or _SHARED) / f"pipelines.kubeflow.org_{plural}.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is not here: set AVSKRIFT_CRDS to a folder with Kubeflow Pipelines' CRDs")
    crd = next(found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found)
    (version,) = (entry for entry in crd["spec"]["versions"] if entry["name"] == "v2beta1")
    structural: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return structural


def test_every_bound_of_the_gate_is_a_parameter_of_the_run_and_arrives_at_the_gate() -> None:
    parameters = inspect.signature(fine_tune_pipeline.pipeline_func).parameters
    arrives = _spec("fine_tune")["components"]["comp-exit-handler-1"]["dag"]["tasks"]["gate"]["inputs"]["parameters"]
    for bound in dataclasses.fields(Policy):
        assert parameters[bound.name].default == bound.default
        assert arrives[bound.name]["componentInputParameter"].endswith(bound.name)


@pytest.mark.parametrize("name", _NAMES)
def test_only_training_asks_for_gpus_and_only_ops_steps_touch_registry_and_cluster(name: str) -> None:
    asking = {step for step, container in _containers(name).items() if "accelerator" in container.get("resources", {})}
    assert asking <= {"fine-tune"}
    ops = {step for step, container in _containers(name).items() if "/ops:" in container["image"]}
    acting = {"register", "reject", "record", "record-trial", "deploy", "finalize", "train-on-nodes"}
    assert {step for step in ops if not step.startswith("find-baseline")} <= acting


@pytest.mark.parametrize("name", _NAMES)
def test_every_step_says_whose_it_is_what_it_may_use_and_how_long(name: str) -> None:
    platform = _platform(name)["deploymentSpec"]["executors"]
    for step, container in _containers(name).items():
        executor, resources = platform[f"exec-{step}"], container["resources"]
        role = re.search(r"avskrift/(\w+):", container["image"])
        assert role
        assert executor["podMetadata"]["labels"] == {ROLE_LABEL: role[1]}
        assert int(executor["activeDeadlineSeconds"]) >= 3600
        assert resources["resourceCpuLimit"]
        assert resources["resourceMemoryLimit"]


@pytest.mark.parametrize("name", _NAMES)
def test_a_step_holds_the_credentials_that_it_needs_and_no_others(name: str) -> None:
    needed = {
        "list-parts": {"store_secret", "hub_secret"},
        "read-part": {"store_secret", "hub_secret"},
        "prepare": {"store_secret"},
        "fine-tune": {"store_secret", "hub_secret", "mlflow_secret"},
        "evaluate": {"store_secret", "hub_secret"},
        "find-baseline": {"store_secret", "mlflow_secret"},
        "register": {"store_secret", "mlflow_secret"},
    }
    needed |= {step: {"mlflow_secret"} for step in ("reject", "record", "record-trial", "deploy", "finalize", "train-on-nodes")}
    for step in _containers(name):
        secrets = _platform(name)["deploymentSpec"]["executors"][f"exec-{step}"].get("secretAsEnv", [])
        assert all(secret["optional"] for secret in secrets)
        named = {secret["secretNameParameter"]["componentInputParameter"].removeprefix("pipelinechannel--") for secret in secrets}
        assert named == needed.get(re.sub(r"-\d+$", "", step), set()), step


@pytest.mark.parametrize("name", _NAMES)
def test_what_a_run_leaves_in_the_cluster_goes_by_itself(name: str) -> None:
    assert int(_platform(name)["pipelineConfig"]["resourceTtlOnCompletion"]) > 0


@pytest.mark.parametrize("name", _NAMES)
def test_only_a_run_that_trains_in_one_pod_has_a_workspace_and_says_who_may_write_to_it(name: str) -> None:
    workspace = _platform(name)["pipelineConfig"].get("workspace")
    placeholder = "{{$.workspace_path}}" in (_COMMITTED / f"{name}.yaml").read_text(encoding="utf-8")
    if name in ("fine_tune", "retrain"):
        assert placeholder
        assert workspace["kubernetes"]["pvcSpecPatch"] == {"accessModes": ["ReadWriteOnce"]}  # KFP refuses a workspace without
    else:
        assert not placeholder
        assert workspace is None


@pytest.mark.parametrize("name", ["fine_tune", "sweep", "retrain"])
def test_the_training_step_goes_where_the_form_says_and_has_room_for_its_workers(name: str) -> None:
    resources = _containers(name)["fine-tune"]["resources"]
    asked = {"resourceCpuLimit": "train_cpu", "resourceMemoryLimit": "train_memory"}
    for field, parameter in asked.items():
        assert resources[field] == f"{{{{$.inputs.parameters['pipelinechannel--{parameter}']}}}}"
    assert resources["accelerator"] == {
        "resourceCount": "{{$.inputs.parameters['pipelinechannel--gpus']}}",
        "resourceType": "{{$.inputs.parameters['pipelinechannel--gpu_type']}}",
    }
    form = _spec(name)["root"]["inputDefinitions"]["parameters"]
    # KFP's driver reads a resource from text alone.
    assert {form[parameter]["parameterType"] for parameter in ("gpus", "gpu_type", "train_cpu", "train_memory")} == {"STRING"}
    executor = _platform(name)["deploymentSpec"]["executors"]["exec-fine-tune"]
    assert executor["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"].endswith("--node_selector")
    assert executor["tolerations"][0]["tolerationJson"]["componentInputParameter"].endswith("--tolerations")
    (shared,) = executor["emptyDirMounts"]
    assert (shared["medium"], shared["mountPath"]) == ("Memory", "/dev/shm")
    memory = form["train_memory"]["defaultValue"]
    assert int(shared["sizeLimit"].removesuffix("Gi")) < int(memory.removesuffix("Gi"))


@pytest.mark.parametrize("name", ["fine_tune", "sweep", "retrain"])
def test_nothing_of_one_run_alone_goes_into_training_so_that_a_trained_model_is_taken_from_the_cache(name: str) -> None:
    taken = _tasks(name)["fine-tune"]["inputs"]["parameters"]
    constants = {str(value["runtimeValue"]["constant"]) for value in taken.values() if "runtimeValue" in value}
    assert not any("{{$.pipeline_job" in constant for constant in constants)
    (variable,) = _platform(name)["deploymentSpec"]["executors"]["exec-fine-tune"]["fieldPathAsEnv"]
    assert variable == {"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}


@pytest.mark.parametrize("name", _NAMES)
def test_steps_are_tried_again_on_a_cluster_but_for_the_rollout_and_nothing_on_this_machine(name: str) -> None:
    before = _retried(PIPELINES[name].pipeline_spec)
    own = {
        step for step in _tasks(name) if step in {container.rsplit("-", 1)[0] for container in _containers(name)} | set(_containers(name))
    }
    assert {step for step in own if not step.startswith("importer")} - before <= {"deploy"}
    here = for_this_machine(PIPELINES[name], "run-1").pipeline_spec
    assert _retried(here) == set()
    assert "{{$.pipeline_job_uuid}}" not in str(here)
    assert _retried(PIPELINES[name].pipeline_spec) == before, "what is compiled stays as it is"


def _retried(specification: Any) -> set[str]:
    dags = [specification.root.dag, *(component.dag for component in specification.components.values())]
    return {name for dag in dags for name, task in dag.tasks.items() if task.HasField("retry_policy")}


@pytest.mark.parametrize("name", _NAMES)
def test_every_value_that_a_task_takes_from_the_group_around_it_is_one_that_the_group_has(name: str) -> None:
    """kfp's compiler forgets to hand on a parameter that a group needs for a resource alone."""
    specification = _spec(name)
    for part, component in {"root": specification["root"], **specification["components"]}.items():
        had = component.get("inputDefinitions", {}).get("parameters", {})
        for task in component.get("dag", {}).get("tasks", {}).values():
            taken = task.get("inputs", {}).get("parameters", {}).values()
            missing = {value["componentInputParameter"] for value in taken if "componentInputParameter" in value} - set(had)
            assert not missing, part


@pytest.mark.parametrize("name", _NAMES)
def test_what_acts_on_the_world_is_never_taken_from_a_cache(name: str) -> None:
    for step, task in _tasks(name).items():
        if step.startswith(("find-baseline", "register", "reject", "record", "deploy", "finalize")):
            assert not task.get("cachingOptions", {}).get("enableCache", False), step


@pytest.mark.parametrize("name", _NAMES)
def test_the_exit_handler_runs_however_the_pipeline_ended(name: str) -> None:
    finalize = _spec(name)["root"]["dag"]["tasks"]["finalize"]
    assert finalize["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def _containers(name: str) -> dict[str, dict[str, Any]]:
    executors = _spec(name)["deploymentSpec"]["executors"]
    return {step.removeprefix("exec-"): executor["container"] for step, executor in executors.items() if "container" in executor}


def _tasks(name: str) -> dict[str, Any]:
    specification, tasks = _spec(name), {}
    for component in [*specification["components"].values(), specification["root"]]:
        tasks |= component.get("dag", {}).get("tasks", {})
    return tasks


def _platform(name: str) -> dict[str, Any]:
    _, platforms = yaml.safe_load_all((_COMMITTED / f"{name}.yaml").read_text(encoding="utf-8"))
    loaded: dict[str, Any] = platforms["platforms"]["kubernetes"]
    return loaded
