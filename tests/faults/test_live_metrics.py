"""MLflow away, failing or hanging while training runs: training goes on, and every figure arrives once."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import FailingProxy, MlflowServer

from avskrift.registry import tags
from avskrift.registry.live import LiveMetrics, Pace, open_live
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import CurvePoint, Registry, RunKey
from avskrift.training.tracking import Tracker

PACE = Pace(batch_points=50, batch_seconds=0.1, first_wait_seconds=0.1, longest_wait_seconds=0.5)
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_database, folder / "mlflow.db")
    server = MlflowServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(mlflow: MlflowServer) -> MlflowServer:
    """Running, whatever the test before did to it."""
    mlflow.start()
    return mlflow


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[FailingProxy]:
    """In front of the server."""
    proxy = FailingProxy(server.uri)
    yield proxy
    proxy.stop()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> RunKey:
    """A pipeline run of its own for every test."""
    return RunKey(pipeline_run_id=request.node.name.replace("[", "-").replace("]", ""), experiment="swedish")


@pytest.fixture(autouse=True)
def no_configured_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)


def test_figures_appear_while_training_runs_and_are_not_doubled_at_the_end(server: MlflowServer, key: RunKey, tmp_path: Path) -> None:
    live = open_at(server.uri, key, tmp_path / "spool.jsonl")
    losses = log(live, range(1, 121))
    wait_for(lambda: history(server, key, "train_loss") == losses)
    live.close()
    assert not (tmp_path / "spool.jsonl").exists()
    log_curves_at_the_end(server, key, losses)
    assert history(server, key, "train_loss") == losses


def test_a_server_that_is_killed_and_started_again_has_every_point_once(server: MlflowServer, key: RunKey, tmp_path: Path) -> None:
    live = open_at(server.uri, key, tmp_path / "spool.jsonl")
    losses = log(live, range(1, 21))
    wait_for(lambda: history(server, key, "train_loss") == losses)
    server.stop()
    losses |= log(live, range(21, 181))
    server.start()
    losses |= log(live, range(181, 191))
    wait_for(lambda: history(server, key, "train_loss") == losses)
    live.close()
    assert not (tmp_path / "spool.jsonl").exists()
    log_curves_at_the_end(server, key, losses)
    assert history(server, key, "train_loss") == losses


def test_a_server_that_answers_500_for_a_while_has_every_point_once_and_the_outage_is_said_once(
    server: MlflowServer, proxy: FailingProxy, key: RunKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="avskrift"):
        live = open_at(proxy.uri, key, tmp_path / "spool.jsonl")
        losses = log(live, range(1, 21))
        wait_for(lambda: history(server, key, "train_loss") == losses)
        proxy.failing.set()
        losses |= log(live, range(21, 121))
        wait_for(lambda: proxy.refused >= 7)  # MLflow's client asks three times in one attempt of ours
        proxy.failing.clear()
        wait_for(lambda: history(server, key, "train_loss") == losses)
        live.close()
    assert [event for event in events(caplog) if event in ("live_metrics.waiting", "live_metrics.again")] == [
        "live_metrics.waiting",
        "live_metrics.again",
    ]


def test_training_starts_while_the_server_is_away_and_its_figures_arrive_later(
    server: MlflowServer, proxy: FailingProxy, key: RunKey, tmp_path: Path
) -> None:
    proxy.stop()
    live = open_at(proxy.uri, key, tmp_path / "spool.jsonl")
    losses = log(live, range(1, 121))
    proxy.start()
    wait_for(lambda: history(server, key, "train_loss") == losses)
    live.close()


def test_what_could_not_be_sent_stays_in_the_spool_and_a_resumed_run_sends_it_once(
    server: MlflowServer, proxy: FailingProxy, key: RunKey, tmp_path: Path
) -> None:
    spool = tmp_path / "spool.jsonl"
    live = open_at(proxy.uri, key, spool)
    sent = log(live, range(1, 21))
    wait_for(lambda: history(server, key, "train_loss") == sent)
    proxy.stop()
    left = log(live, range(21, 41))
    live.close()
    assert {point["step"]: point["value"] for point in map(json.loads, spool.read_text(encoding="utf-8").splitlines())} == left
    proxy.start()
    resumed = open_at(proxy.uri, key, spool)
    more = log(resumed, range(41, 51))
    resumed.close()
    assert history(server, key, "train_loss") == sent | left | more
    assert not spool.exists()


def test_a_killed_process_leaves_its_figures_to_the_next_one(server: MlflowServer, key: RunKey, tmp_path: Path) -> None:
    spool = tmp_path / "spool.jsonl"
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom avskrift.registry.live import open_live\n"
        f"live = open_live(tracking_uri='http://127.0.0.1:1', pipeline_run_id='x', experiment='x', spool=Path({str(spool)!r}))\n"
        "for step in range(1, 11):\n    live.log(step, {'train_loss': 1 / step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    with spool.open("a", encoding="utf-8") as lines:
        lines.write('{"step": 11, "name": "tra')  # as if it had been killed in the middle of a line
    resumed = open_at(server.uri, key, spool)
    losses = log(resumed, range(11, 13))
    resumed.close()
    assert history(server, key, "train_loss") == {step: 1 / step for step in range(1, 11)} | losses


def test_figures_that_are_not_finite_are_left_out(server: MlflowServer, key: RunKey, tmp_path: Path) -> None:
    live = open_at(server.uri, key, tmp_path / "spool.jsonl")
    live.log(1, {"train_loss": math.nan, "validation_wer": 0.5, "system/gpu_memory_gb": 3.5})
    live.log(2, {"train_loss": math.inf, "validation_wer": -math.inf})
    live.close()
    run = client(server).get_run(open_registry(server.uri).open_run(key))
    assert run.data.metrics == {"validation_wer": 0.5, "system/gpu_memory_gb": 3.5}


@pytest.mark.timeout(60)
def test_a_server_that_never_answers_does_not_hold_up_the_end(key: RunKey, tmp_path: Path) -> None:
    spool = tmp_path / "spool.jsonl"
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        live = open_at(f"http://127.0.0.1:{deaf.getsockname()[1]}", key, spool)
        losses = log(live, range(1, 4))
        live.close(timeout=1)
    assert [json.loads(line)["step"] for line in spool.read_text(encoding="utf-8").splitlines()] == list(losses)


def test_without_a_place_for_the_spool_figures_arrive_all_the_same(
    server: MlflowServer, key: RunKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.INFO, logger="avskrift"):
        live = open_at(server.uri, key, tmp_path / "file" / "spool.jsonl")
        losses = log(live, range(1, 121))
        live.close()
    assert history(server, key, "train_loss") == losses
    assert events(caplog).count("live_metrics.spool_failed") == 1


def test_an_outage_does_not_move_the_random_numbers_that_training_draws(tmp_path: Path) -> None:
    spool = tmp_path / "spool.jsonl"
    code = (
        "import random\nfrom pathlib import Path\nimport numpy\nfrom avskrift.registry.live import open_live\n"
        "python, numbers = random.getstate(), numpy.random.get_state()[1].tolist()\n"
        f"live = open_live(tracking_uri='http://127.0.0.1:1', pipeline_run_id='x', experiment='x', spool=Path({str(spool)!r}))\n"
        "live.log(1, {'train_loss': 1.0})\nlive.close(60)\n"
        "assert random.getstate() == python\nassert numpy.random.get_state()[1].tolist() == numbers\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    assert spool.is_file()


def test_nothing_is_taken_after_the_end(server: MlflowServer, key: RunKey, tmp_path: Path) -> None:
    live = open_at(server.uri, key, tmp_path / "spool.jsonl")
    losses = log(live, range(1, 3))
    live.close()
    live.log(3, {"train_loss": 1.0})
    live.close()
    assert history(server, key, "train_loss") == losses
    assert not (tmp_path / "spool.jsonl").exists()


def test_open_live_opens_the_run_of_the_pipeline(server: MlflowServer, key: RunKey, tmp_path: Path) -> None:
    live = open_live(
        tracking_uri=server.uri, pipeline_run_id=key.pipeline_run_id, experiment=key.experiment, spool=tmp_path / "spool.jsonl"
    )
    assert live is not None
    losses = log(live, range(1, 4))
    live.close()
    assert history(server, key, "train_loss") == losses


def test_without_a_pipeline_run_or_an_mlflow_client_there_is_nothing_to_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_live(tracking_uri="", pipeline_run_id="", experiment="swedish", spool=tmp_path / "spool.jsonl") is None
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as in an image that has none
    assert open_live(tracking_uri="", pipeline_run_id="run", experiment="swedish", spool=tmp_path / "spool.jsonl") is None
    assert list(tmp_path.iterdir()) == []


def open_at(uri: str, key: RunKey, spool: Path) -> LiveMetrics:
    def connect() -> tuple[Registry, str]:
        registry = open_registry(uri)
        return registry, registry.open_run(key)

    return LiveMetrics(connect, spool, pace=PACE)


def log(tracker: Tracker, steps: range) -> dict[int, float]:
    """Log a loss at each step; what was logged."""
    losses = {step: 1 / (3 * step) for step in steps}
    for step, loss in losses.items():
        tracker.log(step, {"train_loss": loss})
    return losses


def log_curves_at_the_end(server: MlflowServer, key: RunKey, losses: Mapping[int, float]) -> None:
    """As the register step does, from curves.jsonl."""
    lines = [json.dumps({"step": step, "value": loss}) for step, loss in losses.items()]
    points = [CurvePoint(step=raw["step"], name="train_loss", value=raw["value"]) for raw in map(json.loads, lines)]
    registry = open_registry(server.uri)
    registry.log_curves(registry.open_run(key), points)


def history(server: MlflowServer, key: RunKey, name: str) -> dict[int, float]:
    """What MLflow has of a curve, nothing before the run is there; a step or a run that is there twice is a failure at once."""
    asked = client(server)
    experiment = asked.get_experiment_by_name(key.experiment)
    found = f"tags.`{tags.PIPELINE_RUN_ID}` = '{key.pipeline_run_id}'"
    runs = asked.search_runs([experiment.experiment_id], found) if experiment else []
    assert len(runs) <= 1
    points = [point for run in runs for point in asked.get_metric_history(run.info.run_id, name)]
    values = {point.step: point.value for point in points}
    assert len(values) == len(points), "a point is there twice"
    return dict(sorted(values.items()))


def client(server: MlflowServer) -> MlflowClient:
    return MlflowClient(server.uri, server.uri)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait until ``reached``; the test's own time limit ends a wait for nothing."""
    while not reached():
        time.sleep(0.1)
