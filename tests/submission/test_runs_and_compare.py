"""`avskrift runs` and `avskrift compare` over a real MLflow on SQLite, run folders, and the replay of a KFP server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from kfp_replay import Replay
from mlflow import MlflowClient
from mlflow.entities import Metric
from small_pipeline import Command

from avskrift.errors import ModelUnavailableError, RegistryError, UsageError
from avskrift.registry import tags
from avskrift.registry.runs import PARENT_RUN, RecordedRuns, RunRecord, open_runs
from avskrift_pipelines.command.comparing import compare
from avskrift_pipelines.command.listing import runs as list_runs
from avskrift_pipelines.comparison import compare as compared

_FIRST, _SECOND = "20261101-120000-aaaaaa", "20261102-120000-bbbbbb"
_STARTED = 1_790_000_000_000  # milliseconds


@dataclass(frozen=True)
class Recorded:
    """An MLflow in a state folder, with two runs of a pipeline, and a sweep of three."""

    home: Path
    client: MlflowClient
    first: str
    second: str
    sweep: str
    children: tuple[str, ...]


def record(
    client: MlflowClient, experiment: str, day: int, *, figures: Mapping[str, float], labels: Mapping[str, str], **parameters: object
) -> str:
    run = client.create_run(experiment, start_time=_STARTED + day * 86_400_000, tags=dict(labels), run_name=f"day-{day}")
    for name, value in parameters.items():
        client.log_param(run.info.run_id, name, value)
    for name, value in figures.items():
        client.log_metric(run.info.run_id, name, value, step=0)
    client.set_terminated(run.info.run_id, "FINISHED", _STARTED + day * 86_400_000 + 600_000 * (day + 1))
    return str(run.info.run_id)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Recorded:
    home = tmp_path_factory.mktemp("recorded")
    (home / "mlflow").mkdir()
    shutil.copy(empty_database, home / "mlflow" / "mlflow.db")
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.create_experiment("swedish", artifact_location=(home / "artifacts").as_uri())

    def labels(run: str, dataset: str = "a" * 32, **more: str) -> dict[str, str]:
        return {tags.PIPELINE_RUN_ID: run, tags.DATASET_FINGERPRINT: dataset, tags.NORMALISER: "sv-1", tags.GATE: "passed"} | more

    before = {"wer": 0.30, "wer_low": 0.25, "wer_high": 0.35, "cer": 0.12, "wer_raw": 0.5, "latency_p95_s": 1.5, "baseline_wer": 1.1}
    after = {"wer": 0.28, "wer_low": 0.24, "wer_high": 0.33, "cer": 0.12, "wer_raw": 0.4, "latency_p95_s": 2.0, "baseline_wer": 1.1}
    first = record(client, experiment, 0, figures=before, labels=labels(_FIRST), base_model="whisper-tiny", epochs=2, seed=1)
    second = record(client, experiment, 1, figures=after, labels=labels(_SECOND), base_model="whisper-base", epochs=2, learning_rate=1e-5)
    # As training and evaluation do: a speed each, and a curve of which the best point counts.
    speeds = [Metric("audio_seconds_per_second", 12.5, _STARTED, 0)]
    speeds += [Metric("training_audio_seconds_per_second", value, _STARTED, step) for step, value in ((1, 80.0), (2, 90.0))]
    client.log_batch(second, metrics=[*speeds, *(Metric("validation_wer", value, _STARTED, step) for step, value in ((1, 0.3), (2, 0.4)))])
    client.create_registered_model("avskrift-sv")
    client.create_model_version("avskrift-sv", (home / "package").as_uri(), run_id=second)
    client.set_registered_model_alias("avskrift-sv", "champion", "1")

    sweep = record(client, experiment, 2, figures={}, labels=labels("sweep"))
    children = tuple(
        record(client, experiment, 3, figures={"validation_wer": wer}, labels={PARENT_RUN: sweep}, learning_rate=rate, epochs=1)
        for rate, wer in ((1e-5, 0.32), (2e-5, 0.29), (4e-5, 0.41))
    )
    return Recorded(home, client, first, second, sweep, children)


@pytest.fixture
def runs(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> RecordedRuns:
    monkeypatch.setenv("AVSKRIFT_HOME", str(recorded.home))
    found = open_runs()
    assert found is not None
    return found


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """What a command's function prints with --json; a process of its own would import mlflow each time."""

    def tell(command: Callable[..., None], *arguments: object, **options: object) -> Any:
        capsys.readouterr()
        command(*arguments, **options, json_=True)
        return json.loads(capsys.readouterr().out)

    return tell


def test_a_run_is_found_by_all_that_it_is_called(recorded: Recorded, runs: RecordedRuns) -> None:
    names = (recorded.second, recorded.second[:12], _SECOND, "models:/avskrift-sv/1", "models:/avskrift-sv@champion")
    assert {runs.find(name).run_id for name in names} == {recorded.second}
    found = runs.find(_SECOND)
    assert (found.experiment, found.base_model, found.gate, found.versions) == ("swedish", "whisper-base", "passed", ("avskrift-sv/1",))
    assert found.interval("wer") == (0.24, 0.33)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", r"no run 'nothing' in MLflow at .*; `avskrift runs` lists them"),
        ("ab", r"of an id at least 4 characters"),
        ("it's", r"no run \"it's\""),
        ("%", r"no run '%'"),
    ],
)
def test_a_name_that_no_run_has_is_refused(runs: RecordedRuns, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        runs.find(name)


def test_a_model_that_is_not_registered_is_told_with_what_is(runs: RecordedRuns) -> None:
    with pytest.raises(ModelUnavailableError, match="avskrift-sv has version 1"):
        runs.find("models:/avskrift-sv/7")


def test_the_beginning_of_two_ids_is_no_name(runs: RecordedRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    alike = [replace(run(), run_id=f"abcd{number}" + "0" * 27) for number in range(2)]  # MLflow draws its ids itself
    monkeypatch.setattr(runs, "_search", lambda *asked, **_: iter(alike if "LIKE" in str(asked) else ()))
    with pytest.raises(UsageError, match=r"abcd could be any of 2 runs \(abcd0.*, abcd1.*\); write more of the id"):
        runs.find("abcd")


def test_of_a_curve_the_point_that_counts_is_its_figure(runs: RecordedRuns) -> None:
    figures = runs.find(_SECOND).figures
    assert figures["validation_wer"] == 0.3, "the weights of the best step are kept"
    assert figures["audio_seconds_per_second"] == 12.5
    assert figures["training_audio_seconds_per_second"] == 90.0


def test_runs_lists_the_newest_first_without_the_parts_of_a_sweep(recorded: Recorded, runs: RecordedRuns, told: Callable[..., Any]) -> None:
    listed = told(list_runs)
    assert [one["mlflow_run_id"] for one in listed] == [recorded.sweep, recorded.second, recorded.first]
    assert (listed[1]["wer"], listed[1]["wer_interval"], listed[1]["versions"]) == (0.28, [0.24, 0.33], ["avskrift-sv/1"])
    assert len(told(list_runs, limit=1)) == 1
    assert told(list_runs, experiment="norwegian") == []


def test_the_command_prints_a_table(recorded: Recorded, avskrift: Command) -> None:
    table = avskrift("runs", AVSKRIFT_HOME=str(recorded.home)).stdout
    assert "28.0% [24.0%, 33.0%]" in table
    assert "avskrift-sv/1" in table


def test_one_run_that_three_places_know_is_listed_once(
    recorded: Recorded, told: Callable[..., Any], kfp: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("AVSKRIFT_HOME", str(home))
    shutil.copytree(recorded.home, home)
    for name, state in ((_FIRST, {"state": "succeeded"}), ("20261103-120000-cccccc", {"state": "running", "pid": 2**22 + 1})):
        (home / "runs" / name).mkdir(parents=True)
        kept = state | {"parameters": {"experiment": "swedish", "base_model": "whisper-tiny"}}
        (home / "runs" / name / "run.json").write_text(json.dumps(kept), encoding="utf-8")
    (home / "runs" / "broken").mkdir()
    kfp.experiments = [{"experiment_id": "e", "display_name": "swedish"}]
    known = {"display_name": "nightly", "experiment_id": "e", "created_at": "2026-11-29T12:00:00Z"}
    kfp.runs = [known | {"run_id": _SECOND, "state": "SUCCEEDED"}, known | {"run_id": "only-there", "state": "RUNNING"}]
    listed = told(list_runs, host=kfp.url)
    by_id = {one["pipeline_run_id"]: one for one in listed}
    assert len(by_id) == len(listed) == 5
    assert by_id[_FIRST]["where"] == ["here", "MLflow"]
    assert (by_id[_FIRST]["run"], by_id[_FIRST]["wer"]) == (_FIRST, 0.30)
    assert by_id[_SECOND]["where"] == ["KFP", "MLflow"]
    assert by_id[_SECOND]["run"] == recorded.second[:8], "what compare takes"
    assert (by_id["only-there"]["state"], by_id["only-there"]["experiment"]) == ("running", "swedish")
    assert by_id["20261103-120000-cccccc"]["state"] == "killed", "its process is gone"


def test_an_empty_state_folder_lists_nothing_and_makes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "empty"))
    list_runs()
    assert "no runs yet" in capsys.readouterr().out
    assert not (tmp_path / "empty").exists()


def test_an_mlflow_that_is_away_is_an_error_only_where_there_is_nothing_else(
    kfp: Replay, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError):
        list_runs(tracking_uri="http://127.0.0.1:1")
    kfp.runs = [{"run_id": "there", "display_name": "nightly", "state": "RUNNING", "created_at": "2026-11-29T12:00:00Z"}]
    list_runs(tracking_uri="http://127.0.0.1:1", host=kfp.url)
    printed = capsys.readouterr()
    assert "MLflow's runs are left out" in printed.err
    assert "there" in printed.out


def test_compare_shows_what_differs_and_which_is_better(recorded: Recorded, runs: RecordedRuns, told: Callable[..., Any]) -> None:
    seen = told(compare, [_FIRST, recorded.second[:10]])
    assert seen["parameters"] == {"base_model": ["whisper-tiny", "whisper-base"], "learning_rate": [None, "1e-05"], "seed": ["1", None]}
    figures = {one["name"]: one for one in seen["figures"]}
    wer = figures["wer"]
    assert (wer["best"], wer["intervals_apart"], wer["lower_is_better"]) == (recorded.second, False, True)
    assert wer["runs"][1]["difference"] == pytest.approx(-0.02)
    assert wer["runs"][0]["interval"] == [0.25, 0.35]
    assert figures["cer"]["best"] is None, "they are the same"
    assert figures["latency_p95_s"]["best"] == recorded.first
    assert figures["wer_raw"]["label"] == "WER, raw"
    assert figures["run_seconds"]["best"] is None
    assert "baseline_wer" not in figures
    assert seen["warnings"] == []


def test_the_tables_say_it_in_words(recorded: Recorded, avskrift: Command) -> None:
    printed = avskrift("compare", _FIRST, _SECOND, AVSKRIFT_HOME=str(recorded.home)).stdout
    for said in (
        "Parameters that differ (1 others are the same)",
        "28.0 % [24.0 %, 33.0 %]",
        "-2.0 points",
        "B (lower; intervals overlap)",
    ):
        assert said in printed


def run(dataset: str = "a", *, wer: float = 0.3, **labels: str) -> RunRecord:
    return RunRecord(
        run_id="0" * 32,
        name="",
        experiment="",
        experiment_id="1",
        status="FINISHED",
        started=0.0,
        ended=60.0,
        parameters={},
        figures={"wer": wer, "latency_p95_s": wer},
        tags=labels,
        dataset=dataset,
    )


def test_figures_of_different_test_sets_are_not_compared_and_it_is_said() -> None:
    seen = compared([run("a" * 32, wer=0.2), run("b" * 32, wer=0.3)])
    assert len(seen.warnings) == 1
    assert seen.warnings[0].startswith("measured on different test sets (A: aaaaaaaaaaaa; B: bbbbbbbbbbbb): error rates cannot be compared")
    rows = {row.figure.name: row for row in seen.rows}
    assert rows["wer"].best is None
    assert [cell.difference for cell in rows["wer"].cells if cell] == [None, None]
    assert rows["latency_p95_s"].best == 0, "a latency is no property of the test set"


def test_figures_of_different_normalisers_are_not_compared_and_it_is_said() -> None:
    seen = compared([run(**{tags.NORMALISER: "sv-1"}), run(**{tags.NORMALISER: "sv-2"}, wer=0.2)])
    assert "normalised differently (sv-1, sv-2)" in seen.warnings[0]
    assert next(row for row in seen.rows if row.figure.name == "wer").best is None


def test_a_test_set_that_is_not_recorded_is_said() -> None:
    seen = compared([run(), run("", wer=0.2)])
    assert seen.warnings == ("of B no dataset is recorded: whether the test set is the same is not known",)


def test_of_three_runs_the_best_is_named_and_two_equal_ones_are_not() -> None:
    rows = {row.figure.name: row for row in compared([run(wer=0.3), run(wer=0.1), run(wer=0.2)]).rows}
    assert rows["wer"].best == 1
    assert [cell.difference for cell in rows["wer"].cells if cell][1:] == pytest.approx([-0.2, -0.1])
    equal = {row.figure.name: row for row in compared([run(wer=0.1), run(wer=0.1), run(wer=0.2)]).rows}
    assert equal["wer"].best is None


def test_a_sweep_is_sorted_by_validation_wer(recorded: Recorded, runs: RecordedRuns, capsys: pytest.CaptureFixture[str]) -> None:
    compare([recorded.sweep], sweep=True, json_=True)
    listed = json.loads(capsys.readouterr().out)
    assert [one["parameters"]["learning_rate"] for one in listed] == ["2e-05", "1e-05", "4e-05"]
    compare(["sweep"], sweep=True)
    printed = capsys.readouterr().out
    assert "3 runs, lowest validation WER first" in printed
    assert "29.0%" in printed
    assert "epochs" not in printed, "it is the same in all"


def test_a_trial_that_failed_early_makes_no_columns_and_steps_are_no_trials(
    recorded: Recorded, runs: RecordedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    (experiment,) = {recorded.client.get_run(recorded.sweep).info.experiment_id}
    record(recorded.client, experiment, 3, figures={}, labels={PARENT_RUN: recorded.sweep}, learning_rate=8e-5)
    record(recorded.client, experiment, 3, figures={}, labels={PARENT_RUN: recorded.sweep, tags.CHILD: "plan_sweep"}, max_trials=16)
    compare(["sweep"], sweep=True)
    printed = capsys.readouterr().out
    assert "4 runs, lowest validation WER first" in printed
    assert "epochs" not in printed
    assert "max_trials" not in printed
    record(recorded.client, experiment, 3, figures={}, labels={PARENT_RUN: recorded.first, tags.CHILD: "prepare"}, max_clips=16)
    with pytest.raises(UsageError, match="no trials inside"):
        compare([_FIRST], sweep=True)


def test_what_cannot_be_compared_is_refused(recorded: Recorded, runs: RecordedRuns) -> None:
    with pytest.raises(UsageError, match="takes two runs or more"):
        compare([_FIRST])
    with pytest.raises(UsageError, match="named twice"):
        compare([_FIRST, recorded.first])
    with pytest.raises(UsageError, match="no trials inside"):
        compare([_FIRST], sweep=True)
    with pytest.raises(UsageError, match="takes two runs or more"):
        compare([_FIRST, _SECOND], sweep=True)
