"""The committed YAML is what the code compiles to, and what a cluster can take."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from avskrift.evaluation.policy import Policy
from avskrift_pipelines.compiled import PIPELINES, compiled
from avskrift_pipelines.fine_tune import fine_tune_pipeline
from avskrift_pipelines.local import for_this_machine

_COMMITTED = Path(__file__).parents[2] / "pipelines" / "compiled"
_NAMES = sorted(PIPELINES)


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


def test_every_bound_of_the_gate_is_a_parameter_of_the_run_and_arrives_at_the_gate() -> None:
    parameters = inspect.signature(fine_tune_pipeline.pipeline_func).parameters
    arrives = _spec("fine_tune")["components"]["comp-exit-handler-1"]["dag"]["tasks"]["gate"]["inputs"]["parameters"]
    for bound in dataclasses.fields(Policy):
        assert parameters[bound.name].default == bound.default
        assert arrives[bound.name]["componentInputParameter"].endswith(bound.name)


def test_only_the_steps_that_need_a_gpu_ask_for_one_and_only_ops_steps_touch_the_registry() -> None:
    executors = _spec("fine_tune")["deploymentSpec"]["executors"]
    containers = {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}
    assert [name for name, container in containers.items() if "accelerator" in container.get("resources", {})] == ["fine-tune"]
    ops = {name for name, container in containers.items() if "/ops:" in container["image"]}
    assert ops == {"find-baseline", "register", "reject", "deploy", "finalize"}


def test_the_training_step_takes_its_gpus_from_a_parameter_and_has_room_for_its_workers() -> None:
    container = _spec("fine_tune")["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]
    assert container["resources"]["accelerator"]["resourceCount"] == "{{$.inputs.parameters['pipelinechannel--gpus']}}"
    # KFP's driver reads a resource from text alone.
    assert _spec("fine_tune")["root"]["inputDefinitions"]["parameters"]["gpus"]["parameterType"] == "STRING"
    _, platforms = yaml.safe_load_all((_COMMITTED / "fine_tune.yaml").read_text(encoding="utf-8"))
    (executor,) = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert executor["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (shared,) = executor["emptyDirMounts"]
    assert (shared["medium"], shared["mountPath"]) == ("Memory", "/dev/shm")
    assert int(shared["sizeLimit"].removesuffix("Gi")) < int(container["resources"]["resourceMemoryLimit"].removesuffix("Gi"))


def test_only_training_is_tried_again_on_a_cluster_and_nothing_on_this_machine() -> None:
    assert _retried(fine_tune_pipeline.pipeline_spec) == {"fine-tune"}
    assert _retried(for_this_machine(fine_tune_pipeline, "run-1").pipeline_spec) == set()
    assert _retried(fine_tune_pipeline.pipeline_spec) == {"fine-tune"}, "what is compiled stays as it is"


def _retried(specification: Any) -> set[str]:
    dags = [specification.root.dag, *(component.dag for component in specification.components.values())]
    return {name for dag in dags for name, task in dag.tasks.items() if task.HasField("retry_policy")}


def test_every_value_that_a_task_takes_from_the_group_around_it_is_one_that_the_group_has() -> None:
    """kfp's compiler forgets to hand on a parameter that a group needs for a resource alone."""
    specification = _spec("fine_tune")
    for name, component in {"root": specification["root"], **specification["components"]}.items():
        had = component.get("inputDefinitions", {}).get("parameters", {})
        for task in component.get("dag", {}).get("tasks", {}).values():
            taken = task.get("inputs", {}).get("parameters", {}).values()
            missing = {value["componentInputParameter"] for value in taken if "componentInputParameter" in value} - set(had)
            assert not missing, name


def test_what_acts_on_the_world_is_never_taken_from_a_cache() -> None:
    tasks: dict[str, Any] = {}
    specification = _spec("fine_tune")
    for component in [*specification["components"].values(), specification["root"]]:
        tasks |= component.get("dag", {}).get("tasks", {})
    for name in ("find-baseline", "register", "reject", "deploy", "finalize"):
        assert not tasks[name].get("cachingOptions", {}).get("enableCache", False), name


def test_the_exit_handler_runs_however_the_pipeline_ended() -> None:
    finalize = _spec("fine_tune")["root"]["dag"]["tasks"]["finalize"]
    assert finalize["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
