"""The dataset of a run as MLflow shows it: its inputs, figures, report and origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow.data
import pyarrow as pa
import pytest
from dataset_material import FINGERPRINT, make_card, of
from deployment_material import Material, make_material
from mlflow import MlflowClient
from mlflow.entities import DatasetInput as Recorded
from mlflow.types import Schema

from avskrift.corpus.dataset import CLIP_SCHEMA, DESCRIPTION_FILE, REPORT_FILE
from avskrift.errors import DatasetError, UsageError
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import DatasetInput, RunKey
from avskrift.steps import dataset_card
from avskrift.steps.register.step import Config, run
from avskrift.steps.reject.step import Config as RejectConfig
from avskrift.steps.reject.step import run as reject


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    return MlflowClient(uri, uri)


def outputs(material: Material, card: Path | None) -> dict[str, Any]:
    return {
        "package_uri": str(material.package.folder),
        "evaluation": material.evaluation,
        "gate": material.decision,
        "training": material.training,
        "dataset_card": card,
        "experiment": "swedish",
        "pipeline_run_id": "run-1",
    }


def registered(material: Material, card: Path | None) -> str:
    return run(Config(**outputs(material, card), model_name="whisper-sv")).run_id


def inputs(home: Path, run_id: str) -> dict[str, Recorded]:
    """The run's dataset inputs by context."""
    recorded = client(home).get_run(run_id).inputs
    assert recorded is not None
    found = {tag.value: used for used in recorded.dataset_inputs for tag in used.tags}
    assert len(found) == len(recorded.dataset_inputs)
    return found


def profile(used: Recorded) -> dict[str, Any]:
    return dict(json.loads(used.dataset.profile or ""))


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return make_material(tmp_path / "run")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return make_card(tmp_path / "card")


def test_every_split_is_an_input_with_its_use_and_what_is_in_it(home: Path, material: Material, card: Path) -> None:
    found = inputs(home, registered(material, card))
    assert sorted(found) == ["test", "training", "validation"]
    assert [tag.key for tag in found["training"].tags] == ["mlflow.data.context"]
    assert {context: used.dataset.name for context, used in found.items()} == {
        "training": "train of demo:tiny",
        "validation": "validation of demo:tiny",
        "test": "test of demo:tiny",
    }
    assert {used.dataset.digest for used in found.values()} == {FINGERPRINT[:36]}
    assert profile(found["training"]) == {
        "clips": 24,
        "hours": 0.02,
        "speakers": 3,
        "rejected_from_sources": 2,
        "language": "sv",
        "licence": "CC0-1.0",
        "source": "demo:tiny",
        "fingerprint": FINGERPRINT,
    }
    assert profile(found["test"])["speakers"] == "unknown"


def test_figures_origin_and_report_of_the_dataset_stand_in_the_run(home: Path, material: Material, card: Path) -> None:
    run_id = registered(material, card)
    recorded = client(home).get_run(run_id).data
    dataset = {
        name: recorded.metrics[name] for name in ("train_clips", "train_hours", "train_speakers", "validation_clips", "rejected_clips")
    }
    assert dataset == {"train_clips": 24, "train_hours": 0.02, "train_speakers": 3, "validation_clips": 8, "rejected_clips": 2}
    assert recorded.metrics["test_clips"] == 100, "as many as were measured"
    assert recorded.tags[tags.DATASET_SOURCE] == "demo:tiny"
    assert recorded.tags[tags.DATASET_LICENCE] == "CC0-1.0"
    assert client(home).get_model_version("whisper-sv", "1").tags[tags.DATASET_LICENCE] == "CC0-1.0"
    kept = {file.path for file in client(home).list_artifacts(run_id, "dataset")}
    assert kept == {"dataset/dataset.json", "dataset/report.html", "dataset/README.md"}


def test_a_retry_and_another_run_of_the_same_dataset_leave_it_once(home: Path, material: Material, card: Path) -> None:
    run_id = registered(material, card)
    before = client(home).get_run(run_id).to_dictionary()
    assert registered(material, card) == run_id
    assert client(home).get_run(run_id).to_dictionary() == before
    assert [point.value for point in client(home).get_metric_history(run_id, "train_clips")] == [24]
    other = run(Config(**{**outputs(material, card), "pipeline_run_id": "run-2"}, model_name="whisper-sv")).run_id
    assert {used.dataset.digest for used in inputs(home, other).values()} == {FINGERPRINT[:36]}


def test_runs_can_be_searched_by_the_dataset_they_were_trained_on(home: Path, material: Material, card: Path) -> None:
    run_id = registered(material, card)
    experiment = client(home).get_run(run_id).info.experiment_id
    found = client(home).search_runs([experiment], f"dataset.digest = '{FINGERPRINT[:36]}' and dataset.context = 'training'")
    assert [found_run.info.run_id for found_run in found] == [run_id]


def test_a_rejected_run_shows_its_dataset_too(home: Path, card: Path, tmp_path: Path) -> None:
    material = make_material(tmp_path / "bad", wer=0.6)
    run_id = reject(RejectConfig(**outputs(material, card))).run_id
    assert sorted(inputs(home, run_id)) == ["test", "training", "validation"]
    assert client(home).get_run(run_id).data.tags[tags.DATASET_SOURCE] == "demo:tiny"


def test_a_split_without_clips_is_no_input(home: Path, material: Material, tmp_path: Path) -> None:
    splits = {"train": {"clips": 3, "hours": 0.1, "speakers": 1}, "validation": {"clips": 0, "hours": 0, "speakers": 0}}
    assert list(inputs(home, registered(material, make_card(tmp_path / "card", splits=splits)))) == ["training"]


def test_without_a_card_no_dataset_is_recorded(home: Path, material: Material) -> None:
    run_id = registered(material, None)
    assert inputs(home, run_id) == {}
    assert "train_clips" not in client(home).get_run(run_id).data.metrics


def test_a_card_without_its_report_is_recorded(home: Path, material: Material, card: Path) -> None:
    (card / "report.html").unlink()
    run_id = registered(material, card)
    assert len(inputs(home, run_id)) == 3


def test_the_card_of_another_dataset_than_was_measured_on_is_refused(home: Path, material: Material, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"the dataset card is of dataset aaaa.*, and ffff.* was measured on; give that one's card, or none"
    ):
        registered(material, make_card(tmp_path / "card", fingerprint="a" * 64))
    assert client(home).search_experiments(filter_string="name = 'swedish'") == [], "nothing was written"


def test_the_card_of_another_dataset_than_was_trained_on_is_refused(home: Path, material: Material, card: Path) -> None:
    story = json.loads((material.training / "training.json").read_text(encoding="utf-8"))
    (material.training / "training.json").write_text(json.dumps({**story, "dataset_fingerprint": "b" * 64}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"and bbbb.* was trained on"):
        registered(material, card)


def test_a_folder_that_is_no_card_is_named(home: Path, material: Material, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing: no dataset\.json; give the dataset's card"):
        registered(material, tmp_path / "nothing")


_SPLIT = {"clips": 1, "hours": 1.0, "speakers": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "short"},
        {"fingerprint": 3},
        {"language": None},
        {"source": ["demo:"]},
        {"sources": "demo:"},
        {"sources": [{}]},
        {"splits": []},
        {"splits": {"train": 3}},
        {"splits": {"train": {**_SPLIT, "hours": float("nan")}}},
        {"splits": {"train": {**_SPLIT, "hours": -1}}},
        {"splits": {"train": {**_SPLIT, "clips": True}}},
        {"splits": {"train": {**_SPLIT, "speakers": -1}}},
        {"rejected": "2"},
    ],
    ids=str,
)
def test_a_card_that_breaks_its_contract_is_named(changes: dict[str, Any], home: Path, material: Material, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json: not a dataset description \(.+\); prepare the dataset again"):
        registered(material, make_card(tmp_path / "card", **changes))


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"', "\N{LATIN SMALL LETTER A WITH RING ABOVE}"])
def test_a_card_that_is_no_json_object_is_named(content: str, home: Path, material: Material, card: Path) -> None:
    (card / "dataset.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"dataset\.json: not a dataset description"):
        registered(material, card)


def test_the_columns_on_record_are_those_of_a_datasets_files(home: Path, material: Material, card: Path) -> None:
    schema = json.loads(inputs(home, registered(material, card))["training"].dataset.schema or "")
    columns = Schema.from_json(json.dumps(schema["mlflow_colspec"])).input_dict()
    types = {pa.string(): "string", pa.float64(): "double", CLIP_SCHEMA.field("audio").type: "binary"}
    assert {name: column.type.name for name, column in columns.items()} == {field.name: types[field.type] for field in CLIP_SCHEMA}
    assert (dataset_card.DESCRIPTION_FILE, REPORT_FILE in dataset_card.CARD_FILES) == (DESCRIPTION_FILE, True)


@pytest.mark.parametrize(
    ("uris", "name", "kind", "source"),
    [
        (["demo:"], "demo", "local", {"uri": "demo:"}),
        (["/data/calls/"], "calls", "local", {"uri": "/data/calls/"}),
        (["commonvoice:/data/cv-25-sv.tar.gz"], "cv-25-sv.tar.gz", "local", {"uri": "commonvoice:/data/cv-25-sv.tar.gz"}),
        (["commonvoice:s3://speech/cv-25-sv.tar.gz"], "cv-25-sv.tar.gz", "s3", {"uri": "s3://speech/cv-25-sv.tar.gz"}),
        (["commonvoice:https://host/cv.tar.gz?Signature=hunter2"], "cv.tar.gz", "http", {"url": "https://host/cv.tar.gz?[redacted]"}),
        (["commonvoice:https://me:hunter2@host"], "[redacted]host", "http", {"url": "https://[redacted]host"}),
        (["hf://google/fleurs?config=sv_se"], "fleurs", "hugging_face", {"path": "google/fleurs"}),
        (["demo:tiny", "folder:/data/å"], "demo:tiny + å", "code", {"tags": {tags.DATASET_SOURCE: "demo:tiny + folder:/data/å"}}),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else "",
)
def test_a_source_is_named_so_that_mlflow_knows_it_and_holds_no_secret(
    home: Path, material: Material, tmp_path: Path, uris: list[str], name: str, kind: str, source: dict[str, Any]
) -> None:
    card = make_card(tmp_path / "card", source=" + ".join(uris), sources=[of(uri) for uri in uris])
    used = inputs(home, registered(material, card))["training"]
    assert (used.dataset.name, used.dataset.source_type, json.loads(used.dataset.source)) == (f"train of {name}", kind, source)
    assert mlflow.data.get_source(used).to_dict().items() >= source.items()
    assert "hunter2" not in str(used.dataset.to_dictionary())


def test_what_is_longer_than_mlflow_takes_is_cut(home: Path) -> None:
    registry = open_registry()
    run_id = registry.open_run(RunKey(pipeline_run_id="run-1", experiment="swedish"))
    long = DatasetInput(
        name="n" * 900, digest="d" * 64, context="training", sources=["/\N{SNOWMAN}" * 90_000], profile={"source": "s" * 90_000}
    )
    registry.log_inputs(run_id, [long])
    used = inputs(home, run_id)["training"]
    assert (len(used.dataset.name), len(used.dataset.digest)) == (500, 36)
    assert len(json.loads(used.dataset.source)["uri"]) == 10_000
