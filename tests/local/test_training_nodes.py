"""What a TrainJob's pods run, with an S3 server between them: nodes fetch once, train together, and the first process alone delivers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import seaweedfs
import small_training
from dataset_folder import write_dataset
from running import free_port, processes_of, wait_until
from s3_line import STALLED, Line, line_to
from seaweedfs import BUCKET, Store
from small_training import spoken

from avskrift.errors import ModelUnavailableError, UsageError
from avskrift.steps.fine_tune.job import read_job
from avskrift.steps.fine_tune.places import Target, as_s3, source_folder, target
from avskrift.storage.paths import home
from avskrift.storage.uploads import upload_folder
from avskrift.training.report import read_report
from avskrift.whisper.transformers_folder import open_model

pytestmark = pytest.mark.runs

whisper = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

TRAINING = {"epochs": 1, "max_steps": 2, "batch_seconds": 4.0, "checkpoint_minutes": 0.0, "device": "cpu", "threads": 1}


@dataclass(frozen=True)
class Nodes:
    """A job of one test: its place in the store, the line to it, and the folders of the nodes."""

    store: Store
    line: Line
    place: str
    folder: Path

    @property
    def job(self) -> str:
        places = {name: f"minio://{BUCKET}/{self.place}/{name}" for name in ("out", "report")}
        inputs = {"dataset": f"minio://{BUCKET}/inputs/dataset", "base_model": f"s3://{BUCKET}/inputs/whisper"}
        return json.dumps({**inputs, **places, "checkpoints": f"s3://{BUCKET}/{self.place}/checkpoints", "training": TRAINING})

    def keys(self, below: str) -> list[str]:
        prefix = f"{self.place}/{below}/"
        listed = self.store.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
        return sorted(entry["Key"].removeprefix(prefix) for entry in listed)

    def start(
        self, *, node: int = 0, nodes: int = 1, processes: int = 1, port: int = 0, home: str = "", job: str = ""
    ) -> subprocess.Popen[str]:
        """A node, with what Kubeflow Trainer says to torchrun."""
        told = {"NNODES": nodes, "NPROC_PER_NODE": processes, "NODE_RANK": node}
        rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port or free_port()}
        environment = os.environ | {f"PET_{name}": str(value) for name, value in (told | rendezvous).items()}
        environment |= {"AVSKRIFT_HOME": str(self.home(home or f"node-{node}")), "AVSKRIFT_JOB": job or self.job}
        environment |= {"AVSKRIFT_TERMINATION_LOG": str(self.termination_log)}
        command = [sys.executable, "-m", "avskrift.steps.fine_tune.node"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def home(self, name: str) -> Path:
        return self.folder / name

    @property
    def termination_log(self) -> Path:
        return self.folder / "termination-log"

    def fetched(self) -> Counter[str]:
        """How often each object of the dataset and of the base model was asked for, in parts or whole."""
        return Counter(one.partition("?")[0] for one in self.line.requests if one.startswith(f"GET /{BUCKET}/inputs/"))


@pytest.fixture(scope="module")
def store(whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that holds a dataset and a base model."""
    clips = [spoken(f"clip-{number}", seconds=0.6 + 0.1 * number) for number in range(8)]
    dataset = write_dataset(tmp_path_factory.mktemp("dataset"), {"train": clips, "validation": [spoken("heard", seconds=0.4)]})
    with seaweedfs.running(tmp_path_factory.mktemp("seaweedfs")) as store, pytest.MonkeyPatch.context() as patch:
        seaweedfs.use_keys(patch, store.endpoint)
        upload_folder(dataset.folder, f"s3://{BUCKET}/inputs/dataset", last="dataset.json")
        upload_folder(whisper, f"s3://{BUCKET}/inputs/whisper", last="config.json")
        yield store


@pytest.fixture
def nodes(store: Store, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    with line_to(store.endpoint) as line:
        seaweedfs.use_keys(monkeypatch, line.endpoint)
        made = Nodes(store, line, request.node.name, tmp_path)
        made.termination_log.touch()
        yield made


def test_of_two_nodes_each_fetches_and_the_first_alone_delivers(nodes: Nodes) -> None:
    port = free_port()
    for process in [nodes.start(node=number, nodes=2, port=port) for number in range(2)]:
        _end_well(process)
    assert set(nodes.fetched().values()) == {2}
    _is_delivered(nodes)
    puts = Counter(request for request in nodes.line.requests if request.startswith(f"PUT /{BUCKET}/{nodes.place}/out/"))
    assert set(puts.values()) == {1}
    assert not (nodes.home("node-1") / "results").exists()


def test_a_node_killed_while_it_uploads_leaves_no_model_and_another_of_two_processes_goes_on_from_its_checkpoint(nodes: Nodes) -> None:
    last = f"PUT /{BUCKET}/{nodes.place}/out/config.json"
    nodes.line.stall_seconds = 5.0
    nodes.line.rule = lambda method, path: STALLED if f"{method} {path}".startswith(last) else 0
    process = nodes.start()
    with _killed_at_the_end(process):
        wait_until(lambda: any(request.startswith(last) for request in nodes.line.requests), what="the end of the upload")
    wait_until(lambda: processes_of(nodes.home("node-0")) == [], what="none of its processes left")
    assert "config.json" not in nodes.keys("out")
    assert nodes.keys("report") == []
    with pytest.raises(ModelUnavailableError):
        open_model(f"s3://{BUCKET}/{nodes.place}/out")

    nodes.line.rule = lambda method, path: 0
    nodes.line.requests.clear()
    said = _end_well(nodes.start(home="another-node", processes=2))
    assert "checkpoint.resumed step=2" in said
    asked = nodes.fetched()
    assert len(asked) > 5
    assert set(asked.values()) == {1}, "one of the two fetched it, and the other found it there"
    _is_delivered(nodes)
    assert nodes.keys("checkpoints") == []


def test_a_node_ends_with_the_steps_exit_code_and_leaves_its_sentence_for_the_pods_status(nodes: Nodes) -> None:
    job = json.dumps(json.loads(nodes.job) | {"dataset": f"s3://{BUCKET}/nowhere"})
    process = nodes.start(job=job)
    process.communicate(timeout=120)
    assert process.returncode == ModelUnavailableError.exit_code
    assert nodes.termination_log.read_text() == (
        f"avskrift fine_tune: s3://{BUCKET}/nowhere: nothing is stored under that prefix; check the bucket and the path"
    )


@pytest.mark.parametrize("job", ["{", '{"dataset": "d"}', "[]", '{"training": {"epoch": 1}}'])
def test_a_job_that_is_none_is_told(job: str) -> None:
    with pytest.raises(UsageError, match="the job is no configuration of fine_tune"):
        read_job(job)


def test_places_are_folders_of_this_machine_as_they_are_or_an_object_store() -> None:
    assert target("out/model") == Target(Path("out/model"))
    assert target("file:///tmp/model") == Target(Path("/tmp/model"))
    assert source_folder("data/set") == Path("data/set")
    assert as_s3("minio://mlpipeline/v2") == "s3://mlpipeline/v2"
    stored = target("minio://models/run/")
    assert (stored.uri, stored.folder.parent) == ("s3://models/run", home() / "results")
    with pytest.raises(UsageError, match="hf://org/model: results cannot be put there"):
        target("hf://org/model")


def _end_well(process: subprocess.Popen[str]) -> str:
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return said


def _is_delivered(nodes: Nodes) -> None:
    assert "model.safetensors" in nodes.keys("out")
    assert open_model(f"s3://{BUCKET}/{nodes.place}/out").is_dir()
    assert nodes.keys("report") == ["curves.jsonl", "examples.jsonl", "report.html", "training.json"]
    assert read_report(source_folder(f"s3://{BUCKET}/{nodes.place}/report")).result["steps"] == 2


@contextmanager
def _killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.communicate()
