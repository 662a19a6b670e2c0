"""A replay of a Kubeflow Pipelines server, a small pipeline, and the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp_replay import Replay, kfp_replay
from small_pipeline import AVSKRIFT, PIPELINE, Command


@pytest.fixture
def kfp() -> Iterator[Replay]:
    with kfp_replay() as replay:
        yield replay


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(PIPELINE, encoding="utf-8")
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """This process's, with a state folder of its own and nothing that names a server or a token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AVSKRIFT_", "KF_PIPELINES_"))}
    return kept | {"AVSKRIFT_HOME": str(tmp_path / "home"), "NO_COLOR": "1", "COLUMNS": "200"}


@pytest.fixture
def avskrift(environment: dict[str, str]) -> Command:
    """Run the command to its end."""

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        words = [AVSKRIFT, *map(str, arguments)]
        return subprocess.run(words, env=environment | more, capture_output=True, text=True, timeout=100, check=False)

    return run


@pytest.fixture
def submit(avskrift: Command, kfp: Replay, pipeline: Path) -> Command:
    """Submit the small pipeline to the replay, which is looked at all the time."""

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        return avskrift("submit", pipeline, "--host", kfp.url, "--poll-seconds", 0.05, *arguments, **more)

    return run
