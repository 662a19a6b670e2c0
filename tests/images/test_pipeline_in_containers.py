"""The compiled pipeline, each task in its own image: kfp's DockerRunner stands where Kubeflow does otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from built_images import Built
from containers import UID
from docker.types import Mount
from kfp import components, local
from mlflow import MlflowClient

from avskrift.steps.images import LOCK_VARIABLE

pytestmark = pytest.mark.images

_PIPELINE = "fine_tune.yaml"
# Steps write to the pipeline's folder, the workspace and this one alone, as on a cluster to volumes.
_STATE = "/state"
_TRACKING = f"sqlite:///{_STATE}/mlflow.db"
_RUN = {"source": "demo:tiny", "base_model": "/model", "baseline": "/model", "epochs": 1, "checks": "", "tracking_uri": _TRACKING}


@pytest.fixture(scope="module")
def compiled(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's YAML with the images under test in it."""
    folder = tmp_path_factory.mktemp("compiled")
    lock = folder / "images.lock.json"
    lock.write_text(json.dumps(built.references), encoding="utf-8")
    # Components name their images when they are imported, so in a process of its own.
    command = [str(Path(sys.executable).with_name("avskrift")), "compile", "--out", str(folder)]
    subprocess.run(command, env=os.environ | {LOCK_VARIABLE: str(lock)}, check=True)
    return folder / _PIPELINE


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A folder where the steps' user may write, as they may in all that kfp makes while a test runs."""
    before = os.umask(0)
    folder = tmp_path / "state"
    folder.mkdir()
    yield folder
    os.umask(before)


def test_the_pipeline_runs_in_its_images_as_nobody_and_what_does_not_pass_the_gate_is_rejected(
    compiled: Path, state: Path, readable_whisper: Path
) -> None:
    mounts = [Mount("/model", str(readable_whisper), type="bind", read_only=True), Mount(_STATE, str(state), type="bind")]
    hardened: dict[str, Any] = {"read_only": True, "network_mode": "none", "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
    runner = local.DockerRunner(**hardened, tmpfs={"/tmp": "exec"}, mounts=mounts)
    root, workspace = state / "pipeline", state / "workspace"
    root.mkdir()  # else the engine makes it, for root alone
    workspace.mkdir()
    local.init(runner=runner, pipeline_root=str(root), workspace_root=str(workspace))
    pipeline = components.load_component_from_file(str(compiled))
    pipeline(**_RUN)
    done = {path.parent.name for path in root.glob("**/executor_output.json")} | {path.name for path in root.glob("*/*") if path.is_dir()}
    assert {"prepare", "fine-tune", "export", "evaluate", "gate", "reject"} <= done
    assert "register" not in done
    (curves,) = root.glob("**/fine-tune/training/curves.jsonl")
    assert curves.stat().st_uid == int(UID)
    client = MlflowClient(f"sqlite:///{state}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("avskrift").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [run.data.tags["avskrift.gate"] for run in runs if "avskrift.gate" in run.data.tags] == ["rejected"]
