"""The sweep under kfp.local with a tiny Whisper: trials side by side in MLflow, and the best one behind the endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from running import ANY_MODEL_PASSES, avskrift, free_port, processes_of

from avskrift.registry import tags

pytestmark = pytest.mark.runs

RATES = (0.0001, 0.001)


@dataclass(frozen=True)
class Swept:
    home: Path
    told: dict[str, Any]
    output: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}")

    def runs(self, wanted: str) -> list[Run]:
        (experiment,) = [one for one in self.client.search_experiments() if one.name == "avskrift"]
        return list(self.client.search_runs([experiment.experiment_id], wanted))


@pytest.fixture(scope="module")
def swept(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    home = tmp_path_factory.mktemp("home")
    parameters = home / "parameters.yaml"
    given = {
        "source": "demo:tiny",
        "base_models": [str(tiny_whisper)],
        "learning_rates": list(RATES),
        "seeds": [1],
        "epochs": 1,
        "checks": "",
        "port": free_port(),
        **yaml.safe_load(ANY_MODEL_PASSES.read_text(encoding="utf-8")),
    }
    parameters.write_text(json.dumps(given), encoding="utf-8")
    ended = avskrift(home, "run-pipeline", "sweep", "--params-file", parameters, "--json")
    assert ended.returncode == 0, ended.stderr
    yield Swept(home, json.loads(ended.stdout), ended.stderr)
    avskrift(home, "stop")
    assert processes_of(home) == []


def test_each_trial_is_a_run_below_the_sweeps_with_its_parameters_curves_and_rates(swept: Swept) -> None:
    (parent,) = swept.runs(f"tags.`{tags.PIPELINE_RUN_ID}` = '{swept.told['run']}'")
    trials = swept.runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and tags.`{tags.TRIAL}` LIKE '%'")
    assert {float(trial.data.params["learning_rate"]) for trial in trials} == set(RATES)
    for trial in trials:
        figures = trial.data.metrics
        assert figures["picked_on_wer_low"] <= figures["picked_on_wer"] <= figures["picked_on_wer_high"]
        assert "wer" not in figures, "the test split is the gate's"
        assert len(swept.client.get_metric_history(trial.info.run_id, "train_loss")) > 0
        assert trial.info.status == "FINISHED"


def test_the_best_trial_is_registered_and_serves(swept: Swept) -> None:
    (parent,) = swept.runs(f"tags.`{tags.PIPELINE_RUN_ID}` = '{swept.told['run']}'")
    trials = swept.runs(f"tags.`{tags.TRIAL}` LIKE '%'")
    champion = swept.client.get_model_version_by_alias("avskrift-sv", "champion")
    best = min(trials, key=lambda trial: (trial.data.metrics["picked_on_wer"], trial.data.metrics["picked_on_cer"], trial.info.run_name))
    assert champion.tags[tags.PACKAGE_SHA256] == best.data.tags[tags.PACKAGE_SHA256]
    assert champion.run_id == parent.info.run_id
    assert parent.info.status == "FINISHED"


def test_compare_shows_the_trials_side_by_side(swept: Swept) -> None:
    shown = avskrift(swept.home, "compare", "--sweep", swept.told["run"])
    assert shown.returncode == 0, shown.stderr
    for rate in RATES:
        assert f"{rate:g}" in shown.stdout


def test_a_package_that_is_there_is_measured_again_and_recorded_alone(swept: Swept) -> None:
    dataset = next(Path(swept.told["folder"]).glob("pipeline/**/prepare/dataset"))
    words = ("--param", f"dataset={dataset}", "--param", "package=models:/avskrift-sv@champion", "--param", "checks=")
    ended = avskrift(swept.home, "run-pipeline", "evaluate_only", *words, "--param", "comparison=none", "--json")
    assert ended.returncode == 0, ended.stderr
    run_id = json.loads(ended.stdout)["run"]
    (run,) = swept.runs(f"tags.`{tags.PIPELINE_RUN_ID}` = '{run_id}'")
    assert run.data.tags[tags.GATE] in ("passed", "rejected")
    assert "wer" in run.data.metrics
    assert len(swept.client.search_model_versions("name = 'avskrift-sv'")) == 1


def test_retraining_on_what_has_not_changed_trains_nothing(swept: Swept) -> None:
    ended = avskrift(swept.home, "run-pipeline", "retrain", "--param", "source=demo:tiny", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "fine_tune" not in json.loads(ended.stdout)["steps"]


def test_retraining_on_what_has_changed_begins_with_the_champion(swept: Swept, tmp_path: Path) -> None:
    champion = swept.client.get_model_version_by_alias("avskrift-sv", "champion")
    given = {"source": "demo:tiny", "max_clips": 36, "max_steps": 1, "checks": "", "port": free_port()}
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(json.dumps(given | {"comparison": "none", "max_wer": 0.0}), encoding="utf-8")  # which nothing passes
    ended = avskrift(swept.home, "run-pipeline", "retrain", "--params-file", parameters, "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert {"fine_tune", "reject"} <= set(told["steps"])
    (run,) = swept.runs(f"tags.`{tags.PIPELINE_RUN_ID}` = '{told['run']}'")
    assert run.data.params["base_model"] == champion.source
    assert run.data.tags[tags.DATASET_FINGERPRINT] != champion.tags[tags.DATASET_FINGERPRINT]
    assert swept.client.get_model_version_by_alias("avskrift-sv", "champion").version == champion.version


def test_a_sweep_that_is_too_large_is_refused_before_it_begins(tmp_path: Path, tiny_whisper: Path) -> None:
    words = ("--param", "source=demo:tiny", "--param", f'base_models=["{tiny_whisper}"]', "--param", "max_trials=2")
    ended = avskrift(tmp_path, "run-pipeline", "sweep", *words)
    assert ended.returncode == 2
    assert "1 base models, 1 learning rates and 3 seeds make 3 trials, and max_trials is 2" in ended.stderr
    assert not (tmp_path / "runs").exists()
