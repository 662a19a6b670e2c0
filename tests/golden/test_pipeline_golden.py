"""The committed YAML is what the code compiles to, and what a cluster can take."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from avskrift_pipelines.compiled import PIPELINES, compiled

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


def test_only_the_steps_that_need_a_gpu_ask_for_one_and_only_ops_steps_touch_the_registry() -> None:
    executors = _spec("fine_tune")["deploymentSpec"]["executors"]
    containers = {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}
    assert [name for name, container in containers.items() if "accelerator" in container.get("resources", {})] == ["fine-tune"]
    ops = {name for name, container in containers.items() if "/ops:" in container["image"]}
    assert ops == {"register", "reject", "deploy", "finalize"}


def test_what_acts_on_the_world_is_never_taken_from_a_cache() -> None:
    tasks: dict[str, Any] = {}
    specification = _spec("fine_tune")
    for component in [*specification["components"].values(), specification["root"]]:
        tasks |= component.get("dag", {}).get("tasks", {})
    for name in ("register", "reject", "deploy", "finalize"):
        assert not tasks[name].get("cachingOptions", {}).get("enableCache", False), name


def test_the_exit_handler_runs_however_the_pipeline_ended() -> None:
    finalize = _spec("fine_tune")["root"]["dag"]["tasks"]["finalize"]
    assert finalize["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
