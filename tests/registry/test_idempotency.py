"""One pipeline run has one record and one version, however many look at once and whatever answers are lost: MLflow on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from s3_line import LOST, Line, line_to

from avskrift.registry import mlflow_runs, tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey

T = TypeVar("T")
SOURCE = "s3://bucket/package"


@pytest.fixture
def key(request: pytest.FixtureRequest) -> RunKey:
    return RunKey(pipeline_run_id=request.node.name, experiment="swedish")


@pytest.fixture
def mlflow_line(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line to MLflow: what is said of a store holds for any HTTP server."""
    with line_to(server.uri) as line:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", line.endpoint)
        yield line


def at_once(count: int, act: Callable[[], T]) -> list[T]:
    barrier = threading.Barrier(count)

    def begin(_: int) -> T:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def runs(key: RunKey) -> list[str]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(key.experiment)
    assert experiment is not None
    wanted = f"tags.`{tags.PIPELINE_RUN_ID}` = '{key.pipeline_run_id}'"
    return [run.info.run_id for run in client.search_runs([experiment.experiment_id], wanted)]


def versions(name: str) -> list[str]:
    return [str(version.version) for version in MlflowClient().search_model_versions(f"name = '{name}'")]


def register(key: RunKey, name: str) -> str:
    registry = open_registry()
    return registry.register(name, SOURCE, registry.open_run(key), {tags.PIPELINE_RUN_ID: key.pipeline_run_id}).version


def test_many_that_open_a_pipeline_run_at_once_get_one_run(server: MlflowServer, key: RunKey) -> None:
    found = at_once(12, lambda: open_registry().open_run(key))
    assert len(set(found)) == 1
    assert runs(key) == [found[0]]
    assert open_registry().open_run(key) == found[0]


def test_many_that_open_a_step_at_once_get_one_run_below_the_pipelines(server: MlflowServer, key: RunKey) -> None:
    step = RunKey(pipeline_run_id=key.pipeline_run_id, experiment=key.experiment, child="evaluate")
    found = at_once(6, lambda: open_registry().open_run(step))
    parent = open_registry().open_run(key)
    assert len(set(found)) == 1
    assert open_registry().run_tags(found[0])["mlflow.parentRunId"] == parent
    assert runs(key) == [parent]


def test_many_that_register_at_once_get_one_version(server: MlflowServer, key: RunKey) -> None:
    found = at_once(6, lambda: register(key, "at-once"))
    assert len(set(found)) == 1
    assert versions("at-once") == [found[0]]


@pytest.mark.parametrize("asked", ["runs/create", "runs/set-tag", "model-versions/create", "registered-models/create"])
def test_an_answer_that_is_lost_makes_no_second_one(mlflow_line: Line, key: RunKey, asked: str) -> None:
    lost = threading.Lock()
    mlflow_line.rule = lambda method, path: LOST if asked in path and lost.acquire(blocking=False) else 0
    name = f"lost-{asked.partition('/')[0]}-{asked[-3:]}"
    version = register(key, name)
    assert lost.locked(), "no answer was lost"
    assert versions(name) == [version]
    assert len(runs(key)) == 1
    assert register(key, name) == version


def test_a_run_that_was_made_by_a_process_which_then_died_is_used(
    server: MlflowServer, key: RunKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_runs, "_DRAWING_SECONDS", 0.5)
    open_registry().open_run(RunKey(pipeline_run_id="another", experiment=key.experiment))
    experiment = MlflowClient().get_experiment_by_name(key.experiment)
    assert experiment is not None
    left = MlflowClient().create_run(
        experiment.experiment_id, tags={tags.PIPELINE_RUN_ID: key.pipeline_run_id, tags.CLAIM: "of a process that was killed"}
    )
    assert set(at_once(3, lambda: open_registry().open_run(key))) == {left.info.run_id}


def test_a_run_that_an_earlier_release_made_is_used(server: MlflowServer, key: RunKey) -> None:
    open_registry().open_run(RunKey(pipeline_run_id="another", experiment=key.experiment))
    experiment = MlflowClient().get_experiment_by_name(key.experiment)
    assert experiment is not None
    before = MlflowClient().create_run(experiment.experiment_id, tags={tags.PIPELINE_RUN_ID: key.pipeline_run_id})
    assert open_registry().open_run(key) == before.info.run_id
